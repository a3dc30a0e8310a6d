//! What a schema says of one value, in the words that the checker compares.
//!
//! The subset is what our types generate: no references, no conditions. Whatever else a schema says
//! makes its value unclear, and an unclear value is compatible with nothing but itself.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// Keywords that describe and do not constrain.
const ANNOTATIONS: [&str; 7] = [
    "$schema",
    "$id",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
];

/// What a value may be.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Shape {
    /// JSON types, `integer` apart from `number`.
    pub(super) types: BTreeSet<String>,
    /// The only values there are, if they are listed.
    pub(super) values: Option<Vec<Value>>,
    /// A format that strings keep.
    pub(super) format: Option<String>,
    /// Bounds by keyword: `minimum`, `maxLength` …
    pub(super) bounds: BTreeMap<String, f64>,
    /// A pattern that strings match.
    pub(super) pattern: Option<String>,
    /// Fields of an object.
    pub(super) fields: BTreeMap<String, Value>,
    /// Fields that are always there.
    pub(super) required: BTreeSet<String>,
    /// Fields that are not named: none for any, or what they must be.
    pub(super) others: Option<Value>,
    /// Elements of an array.
    pub(super) items: Option<Value>,
    /// A keyword that the checker does not know.
    pub(super) unclear: Option<String>,
}

impl Shape {
    /// Reads a schema.
    pub(super) fn of(schema: &Value) -> Self {
        let mut shape = Self::default();
        match schema {
            Value::Object(keywords) => shape.read(keywords),
            Value::Bool(true) => {}
            _ => shape.unclear = Some("false".into()),
        }
        shape
    }

    /// Whether it is an object that refuses fields which it does not name.
    pub(super) fn is_closed(&self) -> bool {
        self.others == Some(Value::Bool(false))
    }

    fn read(&mut self, keywords: &Map<String, Value>) {
        for (keyword, value) in keywords {
            match (keyword.as_str(), value) {
                ("type", Value::String(one)) => self.types = BTreeSet::from([one.clone()]),
                ("type", Value::Array(several)) => self.types = texts(several),
                ("const", value) => self.values = Some(vec![value.clone()]),
                ("enum", Value::Array(values)) => self.values = Some(values.clone()),
                ("format", Value::String(format)) => self.set_format(format),
                ("pattern", Value::String(pattern)) => self.pattern = Some(pattern.clone()),
                ("properties", Value::Object(fields)) => self.fields = fields.clone().into_iter().collect(),
                ("required", Value::Array(required)) => self.required = texts(required),
                ("additionalProperties", others) => self.others = Some(others.clone()).filter(|any| *any != true),
                ("items", items) => self.items = Some(items.clone()),
                ("oneOf" | "anyOf", Value::Array(choices)) => self.choose(keyword, choices),
                (bound, Value::Number(number)) if is_bound(bound) => {
                    self.bounds
                        .insert(bound.to_owned(), number.as_f64().unwrap_or_default());
                }
                (annotation, _) if ANNOTATIONS.contains(&annotation) => {}
                (unknown, _) => self.unclear = Some(unknown.to_owned()),
            }
        }
    }

    /// Whole numbers are bounded by their width; other formats are kept as they are called.
    fn set_format(&mut self, format: &str) {
        let (least, most) = match format {
            "int32" => (f64::from(i32::MIN), f64::from(i32::MAX)),
            "int64" => (i64::MIN as f64, i64::MAX as f64),
            "uint16" => (0.0, f64::from(u16::MAX)),
            "uint32" => (0.0, f64::from(u32::MAX)),
            "uint64" => (0.0, u64::MAX as f64),
            other => {
                self.format = Some(other.to_owned());
                return;
            }
        };
        self.bounds.entry("minimum".into()).or_insert(least);
        self.bounds.entry("maximum".into()).or_insert(most);
    }

    /// Listed values, or something that may also be null; any other choice is unclear.
    fn choose(&mut self, keyword: &str, choices: &[Value]) {
        let shapes: Vec<Self> = choices.iter().map(Self::of).collect();
        let (nulls, others): (Vec<_>, Vec<_>) = shapes.into_iter().partition(|shape| *shape == Self::null());
        let listed: Option<Vec<Vec<Value>>> = others.iter().map(|shape| shape.values.clone()).collect();
        let types = others.iter().flat_map(|shape| shape.types.clone()).collect();
        match (others.as_slice(), listed) {
            ([only], _) => *self = only.clone(),
            (_, Some(values)) => (self.values, self.types) = (Some(values.concat()), types),
            _ => self.unclear = Some(keyword.to_owned()),
        }
        if !nulls.is_empty() {
            self.types.insert("null".into());
            self.values.iter_mut().for_each(|values| values.push(Value::Null));
        }
    }

    fn null() -> Self {
        Self {
            types: BTreeSet::from(["null".to_owned()]),
            ..Self::default()
        }
    }
}

fn is_bound(keyword: &str) -> bool {
    keyword.starts_with("min") || keyword.starts_with("max") || keyword.starts_with("exclusiveM")
}

fn texts(values: &[Value]) -> BTreeSet<String> {
    let texts = values.iter().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}
