//! A JSON object that remembers which keys stood in it twice; maps would keep the last, silently.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

/// Values by key, and the keys that came again.
#[derive(Debug)]
pub(super) struct Unique<V> {
    /// The first value of each key.
    pub(super) values: BTreeMap<String, V>,
    /// Keys with more than one.
    pub(super) repeated: BTreeSet<String>,
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Unique<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Keys(PhantomData))
    }
}

struct Keys<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for Keys<V> {
    type Value = Unique<V>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut unique = Unique {
            values: BTreeMap::new(),
            repeated: BTreeSet::new(),
        };
        while let Some((key, value)) = map.next_entry::<String, V>()? {
            match unique.values.entry(key) {
                Entry::Occupied(taken) => {
                    unique.repeated.insert(taken.key().clone());
                }
                Entry::Vacant(free) => {
                    free.insert(value);
                }
            }
        }
        Ok(unique)
    }
}
