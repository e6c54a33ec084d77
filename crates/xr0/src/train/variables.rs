//! Weights that learn, by the checkpoint's names.
//!
//! A network that is built from [`Variables::weights`] computes with the variables themselves, so a
//! backward pass finds each of them. What is frozen is a plain tensor: no gradient can reach it. A
//! network of the plain form copies no weight, so what an optimiser sets is what it computes with next.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Shape, Tensor, Var};
use candle_nn::Init;
use candle_nn::var_builder::{SimpleBackend, VarBuilder};

use crate::checkpoint::Checkpoint;
use crate::checkpoint::weights::of_shape;
use crate::error::{Error, Result};
use crate::layout::{self, Part};

/// The token embedding, which no stage trains (reference §9.5, step 1).
pub const TOKEN_EMBEDDING: &str = "vlm.model.language_model.embed_tokens.weight";

/// Which tensors get no gradient: whole names, or beginnings of names that end in a dot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frozen(Vec<String>);

impl Frozen {
    /// Takes names; one that ends in a dot stands for all that begin with it.
    pub fn new<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        Self(names.into_iter().map(Into::into).collect())
    }

    /// Says whether a tensor is frozen.
    pub fn holds(&self, name: &str) -> bool {
        let fits = |entry: &String| {
            name == entry || (entry.ends_with('.') && name.starts_with(entry.as_str()))
        };
        self.0.iter().any(fits)
    }
}

/// Weights by name, f32 on the processor: those that learn and those that are frozen.
#[derive(Debug, Clone, Default)]
pub struct Variables {
    learning: BTreeMap<String, Var>,
    frozen: BTreeMap<String, Tensor>,
}

impl Variables {
    /// Reads parts of a checkpoint.
    ///
    /// # Errors
    /// A tensor that cannot be read, or no memory for it.
    pub fn read(checkpoint: &Checkpoint, parts: &[Part], frozen: &Frozen) -> Result<Self> {
        let stored = checkpoint.weights(parts, DType::F32, &Device::Cpu);
        let mut variables = Self::default();
        let specs = layout::tensors(checkpoint.config()).into_iter();
        for spec in specs.filter(|spec| parts.contains(&spec.part)) {
            let tensor = stored.get(spec.shape, &spec.name)?;
            variables.insert(spec.name, &tensor, frozen)?;
        }
        Ok(variables)
    }

    /// Adds a tensor, or replaces the one of that name.
    ///
    /// # Errors
    /// No memory for it.
    pub fn insert(&mut self, name: String, tensor: &Tensor, frozen: &Frozen) -> Result<()> {
        let tensor = tensor.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
        self.learning.remove(&name);
        self.frozen.remove(&name);
        if frozen.holds(&name) {
            self.frozen.insert(name, tensor.detach());
        } else {
            self.learning.insert(name, Var::from_tensor(&tensor)?);
        }
        Ok(())
    }

    /// Gives the variables by name.
    pub fn learning(&self) -> &BTreeMap<String, Var> {
        &self.learning
    }

    /// Gives a weight by name, whether it learns or not.
    ///
    /// # Errors
    /// No weight of that name.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        let learning = self.learning.get(name).map(Var::as_tensor);
        let weight = learning.or_else(|| self.frozen.get(name));
        weight.ok_or_else(|| Error::input(format!("there is no weight {name}")))
    }

    /// Gives the weights for a network that learns; names are the checkpoint's, from its root.
    pub fn weights(&self) -> VarBuilder<'static> {
        self.builder(Tensor::clone)
    }

    /// Gives the same numbers for a network that computes without a graph.
    pub fn still(&self) -> VarBuilder<'static> {
        self.builder(Tensor::detach)
    }

    fn builder(&self, each: impl Fn(&Tensor) -> Tensor) -> VarBuilder<'static> {
        let learning = self
            .learning
            .iter()
            .map(|(name, var)| (name, var.as_tensor()));
        let all = learning.chain(&self.frozen);
        let named = Named(
            all.map(|(name, tensor)| (name.clone(), each(tensor)))
                .collect(),
        );
        VarBuilder::from_backend(Box::new(named), DType::F32, Device::Cpu)
    }
}

/// Tensors by name, as a layer asks for them.
struct Named(HashMap<String, Tensor>);

impl SimpleBackend for Named {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        of_shape(self.get_unchecked(name, dtype, device)?, shape, name)
    }

    fn get_unchecked(
        &self,
        name: &str,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let tensor = self.0.get(name).ok_or_else(|| {
            let path = name.to_owned();
            candle_core::Error::CannotFindTensor { path }.bt()
        })?;
        tensor.to_dtype(dtype)?.to_device(device)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::gradients::Gradients;

    fn two() -> Variables {
        let frozen = Frozen::new(["still."]);
        let mut variables = Variables::default();
        for (name, value) in [("still.w", 2f32), ("moving.w", 3.0)] {
            let tensor = Tensor::new(&[value], &Device::Cpu).unwrap();
            variables.insert(name.to_owned(), &tensor, &frozen).unwrap();
        }
        variables
    }

    #[test]
    fn an_entry_with_a_dot_at_its_end_stands_for_all_that_begin_with_it() {
        let frozen = Frozen::new(["vlm.", "sink.weight"]);
        for (name, held) in [
            ("vlm.model.norm.weight", true),
            ("sink.weight", true),
            ("sink.weight.more", false),
            ("dit.vlm.weight", false),
            ("vlm", false),
        ] {
            assert_eq!(frozen.holds(name), held, "{name}");
        }
    }

    #[test]
    fn a_network_computes_with_the_variables_themselves() {
        let variables = two();
        let weights = variables.weights();
        let [still, moving] = ["still.w", "moving.w"].map(|name| weights.get(1, name).unwrap());
        let product = (&still * &moving).unwrap();
        let gradients = Gradients::of(&product, &variables).unwrap();
        let moved = gradients.get("moving.w").unwrap();
        assert_eq!(moved.to_vec1::<f32>().unwrap(), [2.0]);
        assert_eq!(gradients.names().collect::<Vec<_>>(), ["moving.w"]);
        assert!(!variables.learning().contains_key("still.w"));
    }

    #[test]
    fn still_weights_have_the_same_numbers_and_no_graph() {
        let variables = two();
        let still = variables.still().get(1, "moving.w").unwrap();
        assert_eq!(still.to_vec1::<f32>().unwrap(), [3.0]);
        assert!(!still.is_variable() && !(&still * 2.0).unwrap().track_op());
    }

    #[test]
    fn missing_names_and_other_shapes_are_refused() {
        let weights = two().weights();
        assert!(weights.get(1, "nobody.w").is_err());
        let error = weights.get(2, "still.w").unwrap_err().to_string();
        assert!(error.contains("shape mismatch for still.w"), "{error}");
    }
}
