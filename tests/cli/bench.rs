//! `pixelcnn bench`, and `sample --batch auto`.

use std::fs;

use serde_json::Value;

use crate::schema;
use crate::shell::{Shell, read_png};

fn report(shell: &Shell, name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(shell.path(name)).unwrap()).unwrap()
}

/// The rows of a report for an engine.
fn rows<'a>(report: &'a Value, engine: &str) -> Vec<&'a Value> {
    let results = report["results"].as_array().unwrap();
    results.iter().filter(|row| row["engine"] == engine).collect()
}

fn number(row: &Value, key: &str) -> f64 {
    row[key].as_f64().unwrap_or_else(|| panic!("{key} is {}", row[key]))
}

fn assert_close(got: f64, expected: f64) {
    assert!((got / expected - 1.0).abs() < 1e-9, "got {got}, expected {expected}");
}

fn assert_valid(report: &Value) {
    schema::assert_valid("bench", report);
    for row in report["results"].as_array().unwrap() {
        assert_eq!(row["macs_counted"], row["macs_predicted"], "{row}");
        assert_eq!(row["dispatches_counted"], row["dispatches_predicted"], "{row}");
    }
}

#[test]
fn results_are_as_the_schema_says_and_agree_with_each_other() {
    let shell = Shell::new();
    let said = shell.ok("bench -m grey.safetensors -b 4,1,2,1 --seconds 0.05 --repeat 2 --device cpu \
         --json out.json --csv out.csv --plot out.png");
    assert!(said.stderr.is_empty(), "{}", said.stderr);
    let report = report(&shell, "out.json");
    assert_valid(&report);
    assert_eq!(report["architecture"]["name"], "grey");
    assert_eq!(report["device"]["kind"], "cpu");
    let (cached, naive) = (rows(&report, "cached"), rows(&report, "naive"));
    assert_eq!((cached.len(), naive.len()), (3, 3));
    for ((cached, naive), batch) in cached.iter().zip(&naive).zip([1.0, 2.0, 4.0]) {
        assert_eq!((number(cached, "batch"), number(naive, "batch")), (batch, batch));
        let seconds = number(cached, "seconds_per_batch");
        assert_close(number(cached, "images_per_second"), batch / seconds);
        let speedup = number(naive, "seconds_per_batch") / seconds;
        assert_close(number(cached, "speedup_over_naive"), speedup);
        assert!(speedup > 1.0, "{speedup}");
        assert_eq!(naive["speedup_over_naive"], 1.0);
        let peak = number(&report["device"], "peak_gflops");
        assert_close(number(cached, "peak_share"), number(cached, "gflops") / peak);
        let macs = number(&report["architecture"], "macs_per_image") * batch;
        assert_close(number(cached, "gflops"), 2e-9 * macs / seconds);
        let runs = cached["seconds_per_batch_of_each_run"].as_array().unwrap();
        assert_close(runs.iter().map(|run| run.as_f64().unwrap()).sum::<f64>() / 2.0, seconds);
        assert_eq!(
            naive["extrapolated"],
            number(naive, "pixels_timed") < number(naive, "pixels_per_image")
        );
    }

    let csv = fs::read_to_string(shell.path("out.csv")).unwrap();
    let lines: Vec<Vec<_>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), 1 + 6);
    for (line, row) in lines[1..].iter().zip(report["results"].as_array().unwrap()) {
        // All but the list of runs.
        assert_eq!(line.len(), row.as_object().unwrap().len() - 1);
        for (cell, key) in line.iter().zip(&lines[0]) {
            match &row[*key] {
                Value::Null => assert_eq!(*cell, "", "{key}"),
                Value::Bool(value) => assert_eq!(*cell, value.to_string(), "{key}"),
                Value::String(text) => assert_eq!(cell, text, "{key}"),
                // Read with an error of a bit or so.
                value => {
                    assert!((cell.parse::<f64>().unwrap() - value.as_f64().unwrap()).abs() < 1e-9, "{key}")
                }
            }
        }
    }
    let table =
        said.stdout.lines().filter(|line| line.starts_with("cached ") || line.starts_with("naive "));
    assert_eq!(table.count(), 6, "{}", said.stdout);
}

#[test]
fn the_table_goes_to_stdout_alone() {
    let shell = Shell::new();
    let line = "bench -m rgb.safetensors -b 1,2 --seconds 0 --repeat 1 --engine cached --device cpu";
    let said = shell.ok(&format!("{line} --csv - --json out.json"));
    assert_eq!(said.stderr, "");
    let lines: Vec<_> = said.stdout.lines().collect();
    assert!(lines.len() == 3 && lines[0].starts_with("engine,batch,seconds_per_batch,"), "{lines:?}");
    for (line, row) in lines[1..].iter().zip(report(&shell, "out.json")["results"].as_array().unwrap()) {
        assert!(
            line.starts_with(&format!("cached,{},{},", row["batch"], row["seconds_per_batch"])),
            "{line}"
        );
    }
    assert_eq!(shell.files(), ["grey.safetensors", "out.json", "rgb.safetensors"]);
    let both = shell.run(&format!("{line} --csv - --json -").split(' ').collect::<Vec<_>>());
    let expected = "error: --json - and --csv -: stdout takes one of them (name a file for the other)\n";
    assert_eq!((both.code, &*both.stdout, &*both.stderr), (2, "", expected));
}

/// The check above is none if it lets anything through.
#[test]
fn the_schema_refuses_what_is_wrong() {
    let shell = Shell::new();
    shell.ok(
        "bench -m rgb.safetensors -b 1 --seconds 0 --repeat 1 --engine cached --device cpu --json out.json",
    );
    let right = report(&shell, "out.json");
    assert_valid(&right);
    let changes: [fn(&mut Value); 6] = [
        |report| _ = report.as_object_mut().unwrap().remove("device"),
        |report| report["more"] = 1.into(),
        |report| report["results"][0]["batch"] = 0.into(),
        |report| report["results"][0]["engine"] = "magic".into(),
        |report| report["results"][0]["noisy"] = "no".into(),
        |report| report["stopped"] = serde_json::json!({ "batch": 4 }),
    ];
    for change in changes {
        let mut wrong = right.clone();
        change(&mut wrong);
        assert!(schema::violation(&schema::read("bench"), &wrong, "").is_some(), "{wrong}");
    }
}

#[test]
fn plots_have_lines_and_words() {
    let shell = Shell::new();
    for (file, engines) in
        [("both.png", "cached,naive"), ("both.svg", "naive,cached"), ("one.svg", "cached")]
    {
        let line = "bench -m rgb.safetensors -b 1,2 --seconds 0 --repeat 2 --device cpu";
        shell.ok(&format!("{line} --engine {engines} --plot {file}"));
    }
    let (pixels, _) = read_png(&shell.path("both.png"));
    assert_eq!(pixels.dimensions(), (1600, 1800));
    let count = |top: u32, bottom: u32, is: fn([u8; 3]) -> bool| {
        let rows = pixels.rows().skip(top as usize).take((bottom - top) as usize);
        rows.flatten().filter(|pixel| is([pixel[0], pixel[1], pixel[2]])).count()
    };
    let is_ink = |[r, g, b]: [u8; 3]| r < 100 && g < 100 && b < 100;
    let is_blue = |[r, _, b]: [u8; 3]| b > 130 && r < 60;
    // The title, as words and not as an empty line: some of its pixels, and not most of them.
    let title = count(24, 72, is_ink);
    assert!((500..20_000).contains(&title), "{title} dark pixels in the title");
    assert!(count(200, 900, is_blue) > 500 && count(900, 1600, is_blue) > 500);

    let svg = fs::read_to_string(shell.path("both.svg")).unwrap();
    for words in [
        "pixelcnn bench: rgb, 12x8",
        "published: 183x",
        "on one GPU, another network than this one",
        "speed-up",
        "images/s",
        "naive: ",
    ] {
        assert!(svg.contains(words), "{words}");
    }
    let svg = fs::read_to_string(shell.path("one.svg")).unwrap();
    assert!(!svg.contains("published") && svg.contains("cached: "));
}

/// Runs may be disturbed by whatever else the machine does: up to twenty tries, of which a quiet machine needs one.
#[test]
fn extrapolated_times_are_those_of_whole_runs() {
    const TRIES: usize = 20;
    let shell = Shell::new();
    let differences = |line: &str, engine: &str, cut: &str| {
        let seconds = |effort: &str, extrapolated: bool| {
            let line = format!("bench {line} --engine {engine} --device cpu --threads 1 --json out.json");
            shell.ok(&format!("{line} {effort}"));
            let report = report(&shell, "out.json");
            assert_eq!(report["results"][0]["extrapolated"], extrapolated);
            number(&report["results"][0], "seconds_per_batch")
        };
        let difference = || seconds(cut, true) / seconds("--full", false) - 1.0;
        let tries: Vec<f64> = (0..TRIES).map(|_| difference()).take_while(|d| d.abs() > 0.15).collect();
        assert!(tries.len() < TRIES, "{engine}: off by {tries:?}");
    };
    differences("--architecture 8x1 -b 1 --repeat 3", "naive", "--seconds 0.2");
    differences("--architecture 16x1 -b 32 --repeat 3", "cached", "--rows 8");
}

#[test]
fn a_sweep_stops_at_the_first_batch_that_does_not_fit() {
    let shell = Shell::new();
    let line =
        "bench -m rgb.safetensors --seconds 0 --repeat 2 --engine cached --device cpu --json out.json";
    let said = shell.ok(&format!("{line} -b 2,1000000000,500000000"));
    assert!(
        said.stderr.starts_with("stopped at batch 500000000: a batch of 500000000 images does not fit")
    );
    assert_eq!(said.stderr.lines().count(), 1, "{}", said.stderr);
    let stopped = report(&shell, "out.json");
    assert_valid(&stopped);
    assert_eq!(stopped["stopped"]["batch"], 500_000_000);
    assert_eq!(rows(&stopped, "cached").len(), 1);
    // A run that measured nothing fails.
    let said = shell.error(&format!("{line} -b 1000000000 --plot out.png"));
    assert!(said.contains("nothing was measured: a batch of 1000000000 images does not fit"), "{said}");
}

#[test]
fn what_is_wrong_is_said_before_anything_is_measured() {
    let shell = Shell::new();
    fs::create_dir(shell.path("folder.png")).unwrap();
    shell.errors(
        "errors-bench",
        &[
            "bench --engine magic",
            "bench --engine=",
            "bench --batch-sizes=",
            "bench -b 1,,2",
            "bench -b 0",
            "bench -b 1,-4",
            "bench --plot out.gif",
            "bench --plot out",
            "bench --plot nowhere/out.png",
            "bench --plot folder.png",
            "bench --json out.txt",
            "bench --csv nowhere/out.csv",
            "bench --architecture huge",
            "bench --architecture 0x3",
            "bench --architecture 4096x64",
            "bench --architecture gate:64x7",
            "bench --architecture gated:64",
            "bench --architecture masked:64x65",
            "bench --architecture gated:64x7,grey",
            "bench --architecture prior:64x15@8",
            "bench --architecture prior:64x15@8x8k1",
            "bench --architecture masked:4096x64",
            "bench --architecture published -m rgb.safetensors",
            "bench -m nowhere.safetensors",
            "bench --rows 0",
            "bench --rows 4 --full",
            "bench --repeat 0",
            "bench --seconds -1",
            "bench --seconds nan",
            "bench --profile --device cpu",
        ],
    );
}

#[test]
fn the_batch_is_found_by_trial() {
    let shell = Shell::new();
    let said = shell.ok("sample -m grey.safetensors -n 6 --device cpu -b auto -o auto.png").stderr;
    assert!(said.starts_with("batch: "), "{said}");
    shell.ok("sample -m grey.safetensors -n 6 --device cpu -b 2 -o two.png");
    let (auto, texts) = read_png(&shell.path("auto.png"));
    assert!(auto == read_png(&shell.path("two.png")).0);
    assert!((1..=6).contains(&texts["batch"].parse::<usize>().unwrap()), "{texts:?}");
    let said = shell.error("sample -m grey.safetensors -b some");
    assert!(said.contains("expected a whole number from 1 to 1000000000, or auto"), "{said}");
}

#[test]
#[ignore = "needs a Vulkan adapter"]
fn on_a_gpu() {
    let shell = Shell::on_gpu();
    let line = "bench -m rgb.safetensors -b 1,40 --seconds 0 --repeat 2";
    shell.ok(&format!("{line} --profile --json out.json --plot out.png"));
    let report = report(&shell, "out.json");
    assert_valid(&report);
    for engine in ["cached", "naive"] {
        assert_eq!(rows(&report, engine).len(), 2);
        for row in rows(&report, engine) {
            assert!(number(row, "dispatches_counted") > 0.0 && row["peak_share"].is_null(), "{row}");
        }
    }
    let profiles = report["profiles"].as_array().unwrap();
    assert_eq!(profiles.len(), 2);
    for profile in profiles {
        let kernels = profile["kernels"].as_array().unwrap();
        let sum = |key: &str| kernels.iter().map(|kernel| number(kernel, key)).sum::<f64>();
        assert_close(sum("share"), 1.0);
        let per_pixel = number(rows(&report, "cached")[0], "dispatches_per_pixel");
        assert_close(sum("dispatches"), per_pixel * number(profile, "pixels_timed"));
    }
    let said = shell.ok("sample -m grey.safetensors -n 3 -b auto").stderr;
    assert!(said.contains("batch: "), "{said}");
}
