//! JSON as YAML that people can read: blocks instead of braces.

use serde_json::Value;

/// A document; texts are quoted as in JSON, which YAML reads the same.
pub(crate) fn written(document: &Value) -> String {
    let mut text =
        "# Written by `cargo shop docs` from the types, the wiring tables and the golden corpus.\n".to_owned();
    block(document, 0, &mut text);
    text
}

fn block(value: &Value, depth: usize, text: &mut String) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                text.push_str(&"  ".repeat(depth));
                text.push_str(&format!("{}:", key(name)));
                inside(value, depth, text);
            }
        }
        Value::Array(items) => {
            for item in items {
                text.push_str(&"  ".repeat(depth));
                text.push('-');
                match item {
                    Value::Object(fields) if !fields.is_empty() => {
                        let mut inner = String::new();
                        block(item, depth + 1, &mut inner);
                        text.push(' ');
                        text.push_str(inner.trim_start());
                    }
                    other => inside(other, depth, text),
                }
            }
        }
        _ => {}
    }
}

fn inside(value: &Value, depth: usize, text: &mut String) {
    let is_block = match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => items.iter().any(|item| item.is_object() || item.is_array()),
        _ => false,
    };
    match is_block {
        true => {
            text.push('\n');
            block(value, depth + 1, text);
        }
        false => text.push_str(&format!(" {value}\n")),
    }
}

fn key(name: &str) -> String {
    let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
    let is_plain = is_plain && name.starts_with(|c: char| c.is_ascii_alphabetic());
    if is_plain { name.to_owned() } else { format!("{name:?}") }
}
