//! The output of `pixelcnn inspect --json`; docs/inspect.schema.json describes it.

use serde_json::{Map, Number, Value, json};

use crate::graph::network::Network;
use crate::head::HeadKind;
use crate::model::{Architecture, Model};

use super::costs::Costs;
use super::recipe::{self, parse_size};
use super::sink::Texts;

/// A model, and the costs of its network for batches of `batch` images. Other metadata of its file keeps its keys.
pub fn model(model: &Model, network: &Network, batch: usize) -> Value {
    let (config, head, (width, height)) = (model.config(), model.head(), model.size());
    let (kind, mixtures) = match head.kind() {
        HeadKind::LogisticMixture { mixtures } => ("logistic_mixture", Some(mixtures)),
        HeadKind::Softmax => ("softmax", None),
        HeadKind::Bernoulli => ("bernoulli", None),
    };
    let counts = match &model.architecture {
        Architecture::PixelCnnPp(_) => None,
        Architecture::Graph { graph, .. } => {
            Some((graph.layers.len(), graph.layers.iter().map(|layer| layer.taps.len()).sum::<usize>()))
        }
    };
    let (layers, taps) = counts.unzip();
    let of_file = |key: &str| model.metadata.get(key).map(|text| number(text));
    let caches: usize = network.nodes.iter().map(|node| node.len(batch)).sum();
    let facts = json!({
        "model": model.name,
        "sha256": model.sha256,
        "precision": model.precision.name(),
        "width": width,
        "height": height,
        "channels": head.channels(),
        "size_multiple": model.size_multiple(),
        "filters": config.map(|config| json!(config.filters)).or_else(|| of_file("filters")),
        "blocks": config.map(|config| json!(config.blocks)).or_else(|| of_file("blocks")),
        "levels": config.map(|config| config.levels),
        "dilations": config.map(|config| &config.dilations),
        "nonlinearity": config.map(|config| config.nonlinearity.name()),
        "layers": layers,
        "taps": taps,
        "head": {
            "kind": kind,
            "levels": head.levels(),
            "mixtures": mixtures,
            "steps": head.steps(),
            "parameters": head.parameters(),
        },
        "classes": model.classes(),
        "parameters": model.parameter_count(),
        "batch": batch,
        "parameter_bytes": size_of::<f32>() * model.parameter_count(),
        "cache_bytes": size_of::<f32>() * caches,
    });
    let typed = |(key, text): (&String, &String)| {
        let value = match key.as_str() {
            "bits_per_dim" | "steps" => number(text),
            "training" => object(text),
            _ => text.as_str().into(),
        };
        // It is in the head.
        (key != "mixtures").then(|| (key.clone(), value))
    };
    let mut described: Map<_, _> = model.metadata.iter().filter_map(typed).collect();
    for facts in [facts, json!(Costs::of(network))] {
        described.extend(facts.as_object().cloned().unwrap_or_default());
    }
    described.into()
}

/// A picture: the settings of its recipe beside its other texts.
pub fn picture(texts: &Texts) -> Value {
    let of_text = |(key, text): &(String, String)| (key.clone(), typed(key, text));
    let mut described: Map<_, _> = recipe::without_recipe(texts).iter().map(of_text).collect();
    let of_setting = |(key, value): (String, Value)| match (key.as_str(), value.as_str()) {
        ("size", Some(text)) => (key, size(text)),
        _ => (key, value),
    };
    described.extend(recipe::settings(texts).into_iter().map(of_setting));
    described.into()
}

/// A text of a picture; one that is not as this program writes it stays a text.
fn typed(key: &str, text: &str) -> Value {
    match key {
        "index" | "class_index" | "nth" | "image_index" | "completion" | "first_index" | "count"
        | "channels" | "bits_per_dim" => number(text),
        "batch" => match &numbers(text, [" + ", ","])[..] {
            [batch] => batch.clone(),
            batches => batches.into(),
        },
        "effective_sample_size" => numbers(text, [",", ","]).into(),
        "range" => numbers(text, ["-", "-"]).into(),
        "classes" | "images" => recipe::listed(text).into(),
        _ => text.into(),
    }
}

fn number(text: &str) -> Value {
    text.parse::<Number>().map_or_else(|_| text.into(), Value::from)
}

fn object(text: &str) -> Value {
    serde_json::from_str::<Map<_, _>>(text).map_or_else(|_| text.into(), Value::from)
}

fn numbers(text: &str, separators: [&str; 2]) -> Vec<Value> {
    let [one, other] = separators;
    text.split(one).flat_map(|part| part.split(other)).map(number).collect()
}

/// Width and height.
fn size(text: &str) -> Value {
    parse_size(text).map_or_else(|_| text.into(), |(width, height)| json!([width, height]))
}
