//! The documents, taken apart.

use std::fs;
use std::path::{Path, PathBuf};

use axum::http::Method;
use serde_json::Value;

/// The document of every service.
pub(crate) fn documents() -> [(&'static str, Value); 6] {
    [
        ("analytics", analytics::api::document()),
        ("email", email::api::document()),
        ("inventory", inventory::api::document()),
        ("order", order::api::document()),
        ("payment", payment::api::document()),
        ("warehouse", warehouse::api::document()),
    ]
}

pub(crate) struct Operation {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) value: Value,
}

/// Every operation, with the responses that it shares with others.
pub(crate) fn operations(document: &Value) -> Vec<Operation> {
    let mut found = Vec::new();
    let shared = &document["components"]["responses"];
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, value) in item.as_object().unwrap() {
            let method = method.to_uppercase().parse().unwrap();
            let (path, mut value) = (path.clone(), value.clone());
            for response in value["responses"].as_object_mut().unwrap().values_mut() {
                if let Some(name) = response["$ref"]
                    .as_str()
                    .map(|name| name.rsplit('/').next().unwrap().to_owned())
                {
                    *response = shared[name].clone();
                }
            }
            found.push(Operation { method, path, value });
        }
    }
    found
}

/// Everything that a `$ref` names.
pub(crate) fn references(value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => {
            let own = fields.get("$ref").and_then(Value::as_str).map(str::to_owned);
            own.into_iter().chain(fields.values().flat_map(references)).collect()
        }
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

/// Fails when the committed file is not this text, or makes it so.
pub(crate) fn committed(path: &str, text: &str) {
    let file = root().join(path);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        found == text,
        "{path} is out of date: UPDATE_DOCS=1 cargo test -p e2e-tests --test openapi"
    );
}

/// Where in the sources a problem is made, and of which kind.
pub(crate) fn slugs_in_sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for folder in ["services", "shared/chassis"] {
        for file in sources(&root().join(folder)) {
            let text = fs::read_to_string(&file).unwrap();
            let place = file.strip_prefix(root()).unwrap().display().to_string();
            for call in [
                "ApiError::new(",
                "ApiError::conflict(",
                "Self::new(",
                "Self::later(",
                "wire::problem(",
            ] {
                for after in text.split(call).skip(1) {
                    let arguments = after.split(';').next().unwrap_or_default();
                    let slug = arguments.split('"').skip(1).step_by(2).find(|text| is_slug(text));
                    found.extend(slug.map(|slug| (place.clone(), slug.to_owned())));
                }
            }
        }
    }
    assert!(found.len() > 10, "the sources are written differently now: {found:?}");
    found
}

fn is_slug(text: &str) -> bool {
    text.contains('-') && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "tests" && name != "bin") {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}
