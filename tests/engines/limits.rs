//! The library and the Python scripts have the same limits of a model's architecture.

use std::collections::BTreeMap;

use pixelcnn::internals::model::Config;

#[test]
fn the_scripts_have_the_same_limits() {
    let text = include_str!("../../python/pixelcnn/convert/limits.json");
    let of_scripts: BTreeMap<&str, usize> = serde_json::from_str(text).unwrap();
    assert_eq!(of_scripts, BTreeMap::from(Config::LIMITS));
}
