//! Damaged model files that hold a graph: the reader says what is wrong, or the engine runs it; in little
//! time, and with no more memory than the file gives reason to.
//!
//! Random graphs are changed: numbers, names, lists of their JSON, and bytes of the file. A file with a new
//! answer, digits and names aside, is changed further. `scripts/fuzz` runs this for minutes; here it runs
//! for a moment.

use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::fuzzing;
use crate::memory::peak_of;
use crate::plans::{HeadPlan, Part, Plan, Streams, file, make};
use fastrand::Rng;
use pixelcnn::internals::engine::cpu::CpuEngine;
use pixelcnn::internals::engine::{Engine, Method, Request, Want};
use pixelcnn::internals::graph::reference;
use pixelcnn::internals::model::Model;
use serde_json::{Value, json};

/// Files, where no time is given.
const FILES: u64 = 6000;

/// Bytes of a graph's text, at most.
const LONGEST: usize = 4 << 20;

/// Seconds that a small file may take to be read, on a machine that does other things as well.
const SECONDS: f64 = 3.0;

/// A file before it is written.
#[derive(Clone)]
struct Draft {
    graph: Value,
    parts: BTreeMap<String, Part>,
}

fn seeds() -> Vec<Draft> {
    let mut rng = Rng::with_seed(3);
    let heads = [
        HeadPlan::Softmax,
        HeadPlan::SoftmaxInSteps,
        HeadPlan::Bernoulli,
        HeadPlan::BernoulliInSteps,
        HeadPlan::Mixture,
    ];
    let plan = |i: usize| Plan {
        units: [1 + i % 3, 1 + i % 2],
        levels: 1 + i % 3,
        layers: i % 5,
        widest: 1 + i % 4,
        channels: 1 + i % 3,
        symbols: 2 + i % 4,
        head: heads[i % 5],
        classes: i % 3,
        streams: Streams::All,
        seed: rng.u64(..),
    };
    (0..60)
        .map(plan)
        .map(|plan| {
            let made = make(&plan).complete();
            Draft { graph: made.json(), parts: made.parts() }
        })
        .collect()
}

/// Something within a value, at random.
fn within<'a>(value: &'a mut Value, rng: &mut Rng) -> &'a mut Value {
    let count = match value {
        Value::Array(items) => items.len(),
        Value::Object(entries) => entries.len(),
        _ => 0,
    };
    if count == 0 || rng.u32(..12) == 0 {
        return value;
    }
    let at = rng.usize(..count);
    match value {
        Value::Array(items) => within(&mut items[at], rng),
        Value::Object(entries) => within(entries.iter_mut().nth(at).expect("there are more").1, rng),
        _ => unreachable!("it has parts"),
    }
}

/// All texts of a graph: names of nodes, tensors and functions.
fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        Value::Object(entries) => entries.values().for_each(|item| texts(item, found)),
        _ => {}
    }
}

fn change(draft: &mut Draft, rng: &mut Rng) {
    if rng.u32(..10) == 0 {
        return change_tensor(draft, rng);
    }
    let mut names = Vec::new();
    texts(&draft.graph, &mut names);
    let part = within(&mut draft.graph, rng);
    let numbers =
        [0, 1, 2, 3, 4, 7, 8, 16, 64, 255, 256, 4096, 8192, 65_536, 1 << 17, 1 << 31, i64::MAX, i64::MIN];
    match part {
        Value::Number(number) => {
            *part = match (rng.u32(..4), number.as_i64()) {
                (0, _) => json!(numbers[rng.usize(..numbers.len())]),
                (1, Some(n)) => json!(n.wrapping_neg()),
                (2, Some(n)) => json!(n.wrapping_add(1)),
                (_, Some(n)) => json!(n.wrapping_sub(1)),
                _ => json!([0.0, -1.0, 1e30, 1e300][rng.usize(..4)]),
            };
        }
        Value::String(text) => {
            *text = match rng.u32(..8) {
                0 => "x".repeat([0, 1, 300, 100_000][rng.usize(..4)]),
                1 => ["elu", "exp", "concat_elu", "leaky_relu", "raw", "image", "softmax"][rng.usize(..7)]
                    .to_owned(),
                _ => names[rng.usize(..names.len())].clone(),
            };
        }
        Value::Array(items) if !items.is_empty() => {
            let at = rng.usize(..items.len());
            match rng.u32(..4) {
                0 => drop(items.remove(at)),
                1 => items.insert(at, items[at].clone()),
                2 => {
                    let other = rng.usize(..items.len());
                    items.swap(at, other);
                }
                // Many.
                _ if rng.u32(..20) == 0 => {
                    let item = items[at].clone();
                    let most = LONGEST / item.to_string().len();
                    items.extend(std::iter::repeat_n(item, [10, 1000, 70_000][rng.usize(..3)].min(most)));
                }
                _ => items.insert(at, json!(rng.i32(-3..4))),
            }
        }
        Value::Object(entries) if !entries.is_empty() => {
            let key = entries.keys().nth(rng.usize(..entries.len())).expect("there are more").clone();
            match rng.u32(..6) {
                0 => _ = entries.remove(&key),
                1 => _ = entries.insert("extra".to_owned(), json!(1)),
                2 => _ = entries.insert("phase".to_owned(), json!([rng.u32(..3), rng.u32(..2)])),
                3 => _ = entries.insert("negate".to_owned(), json!(true)),
                4 => _ = entries.insert("steps".to_owned(), json!(rng.bool())),
                _ => {
                    let name = names[rng.usize(..names.len())].clone();
                    _ = entries.insert(["pre", "scale", "shift"][rng.usize(..3)].to_owned(), json!(name));
                }
            }
        }
        _ => {
            *part = [Value::Null, json!(true), json!(1), json!("image"), json!([]), json!({})]
                [rng.usize(..6)]
            .clone()
        }
    }
}

fn change_tensor(draft: &mut Draft, rng: &mut Rng) {
    let at = rng.usize(..draft.parts.len());
    let Some(name) = draft.parts.keys().nth(at).cloned() else { return };
    match rng.u32(..5) {
        0 => drop(draft.parts.remove(&name)),
        1 => {
            let part = draft.parts[&name].clone();
            draft.parts.insert("another".to_owned(), part);
        }
        2 => draft.parts.get_mut(&name).expect("it is there").bytes.fill([0, 0xff, 0x7f][rng.usize(..3)]),
        3 => draft.parts.get_mut(&name).expect("it is there").shape.reverse(),
        _ => {
            // Another shape with the same count.
            let part = draft.parts.get_mut(&name).expect("it is there");
            let count: usize = part.shape.iter().product();
            part.shape =
                [vec![count], vec![1, count], vec![count, 1], vec![1, 1, 1, count]][rng.usize(..4)].clone();
        }
    }
}

/// The result for a file.
fn outcome(bytes: &[u8]) -> Result<bool, String> {
    let model = Model::from_bytes(bytes, "fuzzed").map_err(|error| error.to_string())?;
    let (width, height) = model.size();
    let graph = model.graph(width, height);
    let products: usize = graph.layers.iter().map(|l| l.taps.len() * graph.outputs(l)).sum();
    let numbers: usize = graph.nodes.iter().map(|n| n.channels * (1 + n.forms.len())).sum();
    let mut is_small = width * height * (products + numbers) < 20_000 && graph.head.parameters() < 5000;
    if is_small {
        let network = model.network(width, height);
        // Far reaches take wide margins.
        is_small = network.nodes.iter().map(|node| node.len(1)).sum::<usize>() < 1 << 22;
    }
    if is_small {
        run(&model, &graph)?;
    }
    Ok(is_small)
}

/// Runs a small network in two ways: no panic, the same bits, and no read of a value that is not computed
/// yet.
fn run(model: &Model, graph: &pixelcnn::internals::graph::Graph) -> Result<(), String> {
    let (width, height) = model.size();
    let shape = model.shape(width, height);
    let mut rng = Rng::with_seed(1);
    let levels: Vec<_> =
        (0..shape.dimensions()).map(|_| (rng.u32(..shape.head.levels() as u32)) as u16).collect();
    let classes = if shape.classes > 0 { vec![0] } else { vec![] };
    let want = Want { parameters: true, likelihood: true, trace: false };
    let mut engine = CpuEngine::new(model, width, height, 1).poisoned();
    if engine.prepare(pixelcnn::internals::engine::Room::For(1)).is_err() {
        return Ok(());
    }
    let mut by = |method| {
        let request = Request::evaluate(shape, &levels, &classes, want).unwrap().by(method);
        engine.run(&request, &mut |_| {}).map(|outcome| outcome.parameters)
    };
    let (rows, pixels) = (by(Method::Cached), by(Method::ByPixel));
    let class = (shape.classes > 0).then_some(0);
    let exact = reference::trace(graph, &model.tensors, &levels, class);
    // NaN is not small; scales that are large may make forms infinite.
    let is_small = model.tensors.values().flat_map(|tensor| &tensor.data).all(|w| w.abs() < 1e4)
        && exact.iter().flatten().all(|x| x.abs() < 10.0);
    match (rows, pixels) {
        (Ok(rows), Ok(pixels)) => {
            assert!(
                rows.iter().zip(&pixels).all(|(a, b)| a.to_bits() == b.to_bits()),
                "other bits by pixel"
            );
            if is_small {
                let errors =
                    rows.iter().zip(&exact[graph.head_node]).map(|(a, b)| (f64::from(*a) - b).abs());
                // Forms may be as large as e¹⁰, so that sums lose more than usual.
                let error = errors.fold(0.0, f64::max);
                assert!(error < 0.1, "not what the reference gives: off by {error}");
            }
        }
        // Weights and tables may be too large for 32-bit floats.
        (rows, _) => assert!(!is_small, "{:?}, though all is finite", rows.err()),
    }
    Ok(())
}

#[test]
fn damaged_graphs_are_read_or_refused() {
    let mut rng = Rng::with_seed(fuzzing::seed());
    let mut pool = seeds();
    let good = pool.len();
    let (mut answers, mut count, mut read, mut ran) = (HashSet::new(), 0, 0, 0);
    let (mut most, mut slowest) = (0, 0.0_f64);
    let start = Instant::now();
    let mut judge = |bytes: &[u8]| {
        let began = Instant::now();
        let (answer, taken) = peak_of(|| catch_unwind(AssertUnwindSafe(|| outcome(bytes))));
        let took = began.elapsed().as_secs_f64();
        count += 1;
        most = most.max(taken);
        slowest = slowest.max(took);
        let problem = match &answer {
            Err(_) => "it panicked".to_owned(),
            Ok(Err(error)) if error.len() > 8000 => format!("its message is {} bytes long", error.len()),
            // Numbers have 64 bits; a tap in memory is ten times its shortest JSON.
            Ok(_) if taken > 64 * bytes.len() + (64 << 20) => {
                format!("{} bytes take {taken} of memory", bytes.len())
            }
            Ok(_) if took > SECONDS => format!("{} bytes take {took:.1} s", bytes.len()),
            Ok(answer) => {
                read += u64::from(answer.is_ok());
                ran += u64::from(*answer == Ok(true));
                return answers.insert(kind(answer));
            }
        };
        let file = std::env::temp_dir().join("pixelcnn-fuzz-graph");
        std::fs::write(&file, bytes).unwrap();
        panic!("{problem}, for {}", file.display());
    };
    for draft in &pool {
        judge(&file(&draft.graph.to_string(), &draft.parts));
    }
    for _ in fuzzing::rounds(FILES) {
        // Every second one is a good one, changed.
        let first = rng.usize(..pool.len());
        let mut draft = pool[if rng.bool() { first } else { first % good }].clone();
        for _ in 0..[1, 1, 1, 2, 4, 8][rng.usize(..6)] {
            change(&mut draft, &mut rng);
        }
        let text = draft.graph.to_string();
        if text.len() > LONGEST || !draft.parts.values().all(fits) {
            continue;
        }
        let mut bytes = file(&text, &draft.parts);
        let is_damaged = rng.u32(..8) == 0;
        if is_damaged {
            for _ in 0..1 << rng.u32(..4) {
                let at = rng.usize(..bytes.len());
                bytes[at] ^= 1 << rng.u8(..8);
            }
        }
        if judge(&bytes) && !is_damaged && text.len() < 20_000 && pool.len() < 2000 {
            pool.push(draft);
        }
    }
    println!(
        "{count} graphs in {:.0} s, {read} read, {ran} run, {} different answers, at most {} MiB and {slowest:.2} s",
        start.elapsed().as_secs_f64(),
        answers.len(),
        most >> 20
    );
    assert!(ran * 40 > count, "too few are run: {ran} of {count}");
}

fn fits(part: &Part) -> bool {
    let size = match part.dtype {
        safetensors::Dtype::F64 => 8,
        safetensors::Dtype::F32 => 4,
        _ => 2,
    };
    part.shape.iter().product::<usize>() * size == part.bytes.len()
}

/// An answer without the parts that differ from file to file.
fn kind(answer: &Result<bool, String>) -> String {
    let Err(error) = answer else { return format!("{answer:?}") };
    fuzzing::first_words(error, 12)
}

/// Makes the graph a chain of selections in which each node reads the one before it on some rows.
fn chain(
    length: usize,
    rows: impl Fn(usize) -> Vec<i64>,
    steps: bool,
    width: usize,
) -> impl Fn(&mut Value) {
    // The last is the head's.
    let last = if steps { 4 } else { 2 };
    let channels = move |i: usize| if i + 1 == length { last } else { width };
    move |g: &mut Value| {
        let nodes: Vec<_> = (0..length)
                .map(|i| json!({"name": format!("n{i}"), "channels": channels(i), "forms": [{"activation": "raw"}]}))
                .collect();
        let layers: Vec<_> = (0..length)
                .map(|i| {
                    let source = if i == 0 { "image".to_owned() } else { format!("n{}", i - 1) };
                    let select = if i == 0 { [0, 1] } else { [0, channels(i)] };
                    let taps: Vec<_> = rows(i)
                        .into_iter()
                        .map(|row| json!({"source": source, "row": row, "column": 0, "select": select, "outputs": 0}))
                        .collect();
                    json!({"name": format!("l{i}"), "target": format!("n{i}"), "taps": taps})
                })
                .collect();
        g["nodes"] = json!(nodes);
        g["layers"] = json!(layers);
        g["head"] = json!({"node": format!("n{}", length - 1), "kind": "softmax", "steps": steps});
        if steps {
            g["canvas"] = json!([8, 8, 2]);
        }
    }
}

/// Small files that ask for much: each is refused or read, in little time and memory.
#[test]
fn small_files_do_not_take_much() {
    let tap =
        |row: i64, column: i64| json!({"source": "image", "row": row, "column": column, "weight": "w"});
    let part = |shape: Vec<usize>, value: f32| {
        let count = shape.iter().product();
        Part {
            dtype: safetensors::Dtype::F32,
            shape,
            bytes: std::iter::repeat_n(value.to_le_bytes(), count).flatten().collect(),
        }
    };
    let base = || {
        json!({
            "canvas": [8, 8, 1], "levels": 2, "encoding": [{"table": "e"}],
            "nodes": [{"name": "n0", "channels": 2, "forms": [{"activation": "raw"}]}],
            "layers": [{"name": "l0", "target": "n0", "taps": [tap(-1, 0)]}],
            "head": {"node": "n0", "kind": "softmax"},
        })
    };
    let tensors =
        |weight: Part| BTreeMap::from([("e".to_owned(), part(vec![2], 0.5)), ("w".to_owned(), weight)]);
    let weight = || tensors(part(vec![1, 2], 0.5));
    let mut cases: Vec<(&str, Value, BTreeMap<String, Part>)> = vec![("good", base(), weight())];
    let mut add = |name, edit: &dyn Fn(&mut Value), parts| {
        let mut graph = base();
        edit(&mut graph);
        cases.push((name, graph, parts));
    };

    let names = |count: usize| (0..count).map(|i| json!(i.to_string())).collect::<Vec<_>>();
    add("many classes", &|g| g["classes"] = json!(names(60_000)), weight());
    add("too many classes", &|g| g["classes"] = json!(names(300_000)), weight());
    add(
        "many encodings of a large table",
        &|g| {
            g["levels"] = json!(65_536);
            g["encoding"] = json!(vec![json!({"table": "e"}); 5000]);
        },
        BTreeMap::from([
            ("e".to_owned(), part(vec![65_536, 8], 0.5)),
            ("w".to_owned(), part(vec![8, 2], 0.5)),
        ]),
    );
    add(
        "many taps of weights that are 0",
        &|g| g["layers"][0]["taps"] = json!(vec![tap(-1, 0); 60_000]),
        tensors(part(vec![1, 1 << 17], 0.0)),
    );
    add(
        "many taps that reach far",
        &|g| {
            let taps: Vec<_> = (0..60_000).map(|i| tap(-1 - i % 4096, i % 4000 - 2000)).collect();
            g["layers"][0]["taps"] = json!(taps);
        },
        weight(),
    );
    let encoding = || BTreeMap::from([("e".to_owned(), part(vec![2], 0.5))]);
    add(
        "a chain with many paths",
        &chain(4000, |i| (0..15).map(|k| -1 - (k * (i as i64 + 7)) % 4000).collect(), false, 2),
        encoding(),
    );
    add(
        "a chain that lags more and more",
        &chain(4000, |i| vec![if i < 3999 { 4096 } else { -4096 }], false, 2),
        encoding(),
    );
    add("a long path to the future", &chain(4000, |_| vec![0], false, 2), encoding());
    add("a chain in steps", &chain(1000, |i| vec![if i == 0 { -1 } else { 0 }], true, 4), encoding());
    // Wide nodes cost nothing in a file.
    add("wide nodes in steps", &chain(3, |_| vec![-1], true, 1 << 17), encoding());
    add("many wide nodes in steps", &chain(60, |_| vec![-1], true, 100_000), encoding());
    add("a large canvas", &|g| g["canvas"] = json!([8192, 8192, 1]), weight());
    add("long names", &|g| g["nodes"][0]["name"] = json!("n".repeat(1 << 20)), weight());
    for (name, graph, parts) in cases {
        let bytes = file(&graph.to_string(), &parts);
        let began = Instant::now();
        let read = || Model::from_bytes(&bytes, name).map(drop).map_err(|error| error.to_string());
        let (answer, taken) = peak_of(read);
        let took = began.elapsed().as_secs_f64();
        let shown =
            answer.as_ref().map_or_else(|error| error.chars().take(150).collect(), |()| "read".to_owned());
        println!("{name}: {} KiB take {} MiB and {took:.2} s: {shown}", bytes.len() >> 10, taken >> 20);
        assert!(took < SECONDS, "{name}: {took:.1} s");
        assert!(taken < 24 * bytes.len() + (256 << 20), "{name}: {taken} bytes");
        assert!(answer.is_ok() || answer.unwrap_err().len() < 8000, "{name}: a long message");
    }
}
