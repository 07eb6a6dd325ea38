//! Broken model files.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::shell::Shell;

/// A model file, open for changes.
pub struct File {
    pub tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
    pub metadata: HashMap<String, String>,
}

impl File {
    pub fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensor = |(name, view): (&str, TensorView)| {
            (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec()))
        };
        Self { tensors: file.iter().map(tensor).collect(), metadata: header.metadata().clone().unwrap() }
    }

    pub fn write(&self, path: &Path) {
        let mut views = Vec::new();
        for (name, (dtype, shape, data)) in &self.tensors {
            views.push((name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
        }
        fs::write(path, safetensors::serialize(views, Some(self.metadata.clone())).unwrap()).unwrap();
    }

    pub fn floats(&mut self, name: &str, change: impl FnOnce(&mut [f32])) {
        let (_, _, data) = self.tensors.get_mut(name).unwrap();
        let mut values: Vec<f32> =
            data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        change(&mut values);
        *data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    }
}

#[test]
fn broken_model_files() {
    let shell = Shell::new();
    let good = shell.path("rgb.safetensors");
    let bytes = fs::read(&good).unwrap();
    fs::write(shell.path("empty.safetensors"), "").unwrap();
    fs::write(shell.path("truncated.safetensors"), &bytes[..bytes.len() / 2]).unwrap();
    let noise: Vec<u8> = (1..1000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    fs::write(shell.path("noise.safetensors"), noise).unwrap();
    let mut claims = bytes.clone();
    claims[..8].copy_from_slice(&(1u64 << 40).to_le_bytes());
    fs::write(shell.path("claims.safetensors"), claims).unwrap();

    let edit = |name: &str, change: &dyn Fn(&mut File)| {
        let mut file = File::read(&good);
        change(&mut file);
        file.write(&shell.path(&format!("{name}.safetensors")));
    };
    edit("missing", &|file| _ = file.tensors.remove("output.bias"));
    let extra = || (Dtype::F32, vec![2], vec![0; 8]);
    edit("extra", &|file| _ = file.tensors.insert("output.scale".into(), extra()));
    edit("misshapen", &|file| _ = file.tensors.insert("output.bias".into(), extra()));
    edit("dtype", &|file| {
        let (dtype, _, _) = file.tensors.get_mut("output.bias").unwrap();
        *dtype = Dtype::I32;
    });
    edit("nan", &|file| file.floats("output.bias", |values| values[3] = f32::NAN));
    edit("format", &|file| _ = file.metadata.insert("format".into(), "pixelcnn-9".into()));
    edit("family", &|file| _ = file.metadata.insert("family".into(), "wavenet".into()));
    edit("filters", &|file| _ = file.metadata.insert("filters".into(), "-3".into()));
    let twice = r#"["0", "0", "2", "3", "4"]"#;
    edit("twice", &|file| _ = file.metadata.insert("classes".into(), twice.into()));
    edit("plain", &|file| file.metadata.clear());

    shell.errors(
        "errors-model",
        &[
            "sample -m nowhere.safetensors",
            "sample -m empty.safetensors",
            "sample -m truncated.safetensors",
            "sample -m noise.safetensors",
            "sample -m claims.safetensors",
            "sample -m missing.safetensors",
            "sample -m extra.safetensors",
            "sample -m misshapen.safetensors",
            "sample -m dtype.safetensors",
            "sample -m nan.safetensors",
            "sample -m format.safetensors",
            "sample -m family.safetensors",
            "sample -m filters.safetensors",
            "classify -m twice.safetensors nowhere.png",
            "sample -m plain.safetensors",
            "inspect -m truncated.safetensors",
            "verify -m nan.safetensors",
            "eval -m missing.safetensors nowhere.png",
        ],
    );
}

/// A model with finite weights whose sums overflow.
pub fn exploding(shell: &Shell) {
    let mut file = File::read(&shell.path("rgb.safetensors"));
    file.floats("output.weight", |values| values.fill(3e38));
    file.write(&shell.path("exploding.safetensors"));
}

#[test]
fn nothing_is_drawn_from_numbers_that_are_not_finite() {
    let shell = Shell::new();
    exploding(&shell);
    for target in ["-o samples.png", "--each pictures"] {
        let said = shell.error(&format!("sample -m exploding.safetensors -n 2 --device cpu {target}"));
        assert!(said.contains("NaN or infinity for image"), "{said}");
    }
    image::RgbImage::new(12, 8).save(shell.path("black.png")).unwrap();
    let said = shell.error("eval -m exploding.safetensors black.png --device cpu --params out.npy");
    assert!(
        said.contains("error: black.png: the network gave NaN or infinity for image 0 at row 0, column 0"),
        "{said}"
    );
}
