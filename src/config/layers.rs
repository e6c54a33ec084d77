//! Layers of settings, and which one set each key.

use std::collections::BTreeMap;

use config::{Config as Reader, File, FileFormat, Map, Source, Value, ValueKind};
use serde::de::DeserializeOwned;

use super::ConfigError;

/// One file or flag.
#[derive(Debug, Clone)]
pub struct Layer {
    name: String,
    values: Map<String, Value>,
}

impl Layer {
    /// Reads a TOML text.
    ///
    /// # Errors
    /// [`ConfigError`] if it is no TOML.
    pub fn parse(name: &str, text: &str) -> Result<Self, ConfigError> {
        let values = File::from_str(text, FileFormat::Toml)
            .collect()
            .map_err(|error| ConfigError {
                layer: name.to_owned(),
                key: "-".to_owned(),
                problem: error.to_string(),
            })?;
        Ok(Self {
            name: name.to_owned(),
            values,
        })
    }

    /// Reads `key=value` of a flag that is called `name`; a value that is no TOML is taken as text.
    ///
    /// # Errors
    /// [`ConfigError`] if there is no `=` or the key is none.
    pub fn set(name: &str, text: &str) -> Result<Self, ConfigError> {
        let fault = |problem: &str| ConfigError {
            layer: name.to_owned(),
            key: "-".to_owned(),
            problem: problem.to_owned(),
        };
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| fault("must be key=value, such as expert.strategy=naive"))?;
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if !key
            .split('.')
            .all(|word| !word.is_empty() && word.chars().all(legal))
        {
            return Err(fault("the key must be words with dots between them"));
        }
        Self::parse(name, &format!("{key} = {value}")).or_else(|_| {
            // A JSON string is a TOML string too.
            let quoted = serde_json::Value::String(value.to_owned());
            Self::parse(name, &format!("{key} = {quoted}"))
        })
    }
}

/// Layers, merged: later ones win, key by key; a list is replaced as a whole.
#[derive(Debug, Clone)]
pub struct Merged {
    reader: Reader,
    set_by: BTreeMap<String, (String, String)>,
    last: String,
}

impl Merged {
    /// Merges layers.
    ///
    /// # Errors
    /// [`ConfigError`] if two layers disagree on what is a table.
    pub fn new(layers: Vec<Layer>) -> Result<Self, ConfigError> {
        let mut builder = Reader::builder();
        let mut set_by = BTreeMap::new();
        let mut last = String::new();
        for layer in layers {
            let mut leaves = Vec::new();
            for (key, value) in &layer.values {
                collect_leaves(key, value, &mut leaves);
            }
            for (key, text) in leaves {
                // A list that is replaced takes its old elements with it.
                let stem = key.split('[').next().unwrap_or(&key).to_owned();
                if stem != key {
                    set_by.retain(|k: &String, v: &mut (String, String)| {
                        !k.starts_with(&format!("{stem}[")) || v.0 == layer.name
                    });
                }
                // And so does a table that is replaced by a value.
                let below = format!("{key}.");
                set_by.retain(|k: &String, _| !k.starts_with(&below));
                set_by.insert(key, (layer.name.clone(), text));
            }
            last.clone_from(&layer.name);
            builder = builder.add_source(Values(layer.values));
        }
        let reader = builder.build().map_err(|error| ConfigError {
            layer: last.clone(),
            key: "-".to_owned(),
            problem: error.to_string(),
        })?;
        Ok(Self {
            reader,
            set_by,
            last,
        })
    }

    /// Reads all keys into a type.
    ///
    /// # Errors
    /// [`ConfigError`] with the key that does not fit and the layer that set it.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        self.strict("", self.reader.clone().try_deserialize())
    }

    /// Reads one table into a type.
    ///
    /// # Errors
    /// As [`Merged::read`].
    pub fn section<T: DeserializeOwned>(&self, name: &str) -> Result<T, ConfigError> {
        self.strict(&format!("{name}."), self.reader.get(name))
    }

    /// Reads by way of TOML values, which are what they are: the reader's own would take 1.5 for
    /// `true` and a text for a number.
    fn strict<T: DeserializeOwned>(
        &self,
        stem: &str,
        values: Result<toml::Value, config::ConfigError>,
    ) -> Result<T, ConfigError> {
        let values =
            values.map_err(|error| self.error(stem.trim_end_matches('.'), &error.to_string()))?;
        serde_path_to_error::deserialize(values).map_err(|error| {
            self.error(&format!("{stem}{}", error.path()), error.inner().message())
        })
    }

    /// Reads one key.
    ///
    /// # Errors
    /// [`ConfigError`] if it is missing or of another type.
    pub fn value<T: DeserializeOwned>(&self, key: &str) -> Result<T, ConfigError> {
        self.reader
            .get(key)
            .map_err(|error| self.error(key, &error.to_string()))
    }

    /// Gives every key with its value and the layer that set it.
    pub fn keys(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.set_by
            .iter()
            .map(|(key, (layer, text))| (key.as_str(), text.as_str(), layer.as_str()))
    }

    /// Makes an error about a key, naming the layer that set it, or the nearest table around it.
    pub fn error(&self, key: &str, problem: &str) -> ConfigError {
        let named = |key: &str| {
            let below = |k: &&String| k.as_str() == key || k.starts_with(&format!("{key}."));
            self.set_by
                .iter()
                .rev()
                .find(|(k, _)| below(k))
                .map(|(_, (layer, _))| layer.clone())
        };
        let mut stem = key;
        let layer = loop {
            if let Some(layer) = named(stem) {
                break layer;
            }
            match stem.rfind(['.', '[']) {
                Some(at) => stem = stem.get(..at).unwrap_or_default(),
                None => break self.last.clone(),
            }
        };
        ConfigError {
            layer,
            key: key.to_owned(),
            problem: problem.to_owned(),
        }
    }
}

/// Values that were read before, as a source.
#[derive(Debug, Clone)]
struct Values(Map<String, Value>);

impl Source for Values {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

fn collect_leaves(key: &str, value: &Value, leaves: &mut Vec<(String, String)>) {
    match &value.kind {
        ValueKind::Table(table) => {
            for (inner, value) in table {
                collect_leaves(&format!("{key}.{inner}"), value, leaves);
            }
        }
        ValueKind::Array(list) if list.iter().any(|v| matches!(v.kind, ValueKind::Table(_))) => {
            for (idx, value) in list.iter().enumerate() {
                collect_leaves(&format!("{key}[{idx}]"), value, leaves);
            }
        }
        _ => leaves.push((key.to_owned(), toml_text(value))),
    }
}

/// Gives a value as TOML would have it.
fn toml_text(value: &Value) -> String {
    match &value.kind {
        ValueKind::String(text) => format!("{text:?}"),
        ValueKind::Float(x) => format!("{x:?}"),
        ValueKind::Array(list) => {
            let items: Vec<_> = list.iter().map(toml_text).collect();
            format!("[{}]", items.join(", "))
        }
        _ => value.to_string(),
    }
}
