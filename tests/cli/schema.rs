//! Schemas of docs/, and a check of the program's output against them.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// The schema of a command's JSON.
pub fn read(command: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/{command}.schema.json"));
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

pub fn assert_valid(command: &str, value: &Value) {
    assert_eq!(violation(&read(command), value, ""), None);
}

/// The first value that breaks a schema, if any. Knows the words of JSON Schema that ours use.
pub fn violation(schema: &Value, value: &Value, place: &str) -> Option<String> {
    for (word, rule) in schema.as_object().unwrap() {
        let is_of = |kind: &Value| match kind.as_str().unwrap() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "null" => value.is_null(),
            other => panic!("type {other}"),
        };
        let holds = match word.as_str() {
            "$schema" | "title" | "description" => true,
            "type" => match rule.as_array() {
                Some(kinds) => kinds.iter().any(is_of),
                None => is_of(rule),
            },
            "enum" => rule.as_array().unwrap().contains(value),
            "minimum" => value.as_f64().is_none_or(|v| v >= rule.as_f64().unwrap()),
            "exclusiveMinimum" => value.as_f64().is_none_or(|v| v > rule.as_f64().unwrap()),
            "required" => value.as_object().is_none_or(|object| {
                rule.as_array().unwrap().iter().all(|key| object.contains_key(key.as_str().unwrap()))
            }),
            "oneOf" => {
                let broken: Vec<_> =
                    rule.as_array().unwrap().iter().map(|one| violation(one, value, place)).collect();
                if broken.iter().filter(|broken| broken.is_none()).count() != 1 {
                    return Some(format!("{place}: oneOf: {broken:?}"));
                }
                true
            }
            "additionalProperties" | "properties" | "items" => true,
            other => panic!("{other} is no word of JSON Schema that this test knows"),
        };
        if !holds {
            return Some(format!("{place}: {word}: {value}"));
        }
    }
    let items = value.as_array().into_iter().flatten().zip(0..).filter(|_| schema.get("items").is_some());
    let of_items = items.filter_map(|(item, i)| violation(&schema["items"], item, &format!("{place}/{i}")));
    let properties = value.as_object().into_iter().flatten();
    let of_properties = properties.filter_map(|(key, value)| {
        let place = format!("{place}/{key}");
        match (&schema["properties"][key], &schema["additionalProperties"]) {
            (Value::Null, Value::Null) => None,
            (Value::Null, Value::Bool(false)) => Some(format!("{place}: is unknown")),
            (Value::Null, others) => violation(others, value, &place),
            (rule, _) => violation(rule, value, &place),
        }
    });
    of_items.chain(of_properties).next()
}
