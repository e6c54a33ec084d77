//! Which way each weight would have to go, by name.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};

use crate::error::Result;
use crate::train::variables::Variables;

/// Gradients of one loss, by the names of [`Variables`]; a variable that the loss does not depend
/// on has none.
#[derive(Debug, Clone, Default)]
pub struct Gradients(BTreeMap<String, Tensor>);

impl Gradients {
    /// Goes back from a loss (one number) to every variable that it depends on.
    ///
    /// The graph stays: a second loss on it may go back as well.
    ///
    /// # Errors
    /// An operation without a derivative: a network of the served path.
    pub fn of(loss: &Tensor, variables: &Variables) -> Result<Self> {
        let store = loss.backward()?;
        let found = variables.learning().iter().filter_map(|(name, variable)| {
            let gradient = store.get(variable.as_tensor())?;
            Some((name.clone(), gradient.clone()))
        });
        Ok(Self(found.collect()))
    }

    /// Gives the gradient of a variable, in the variable's shape.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }

    /// Gives the names that have a gradient.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Gives the L2 norm of every gradient, summed in f64.
    ///
    /// # Errors
    /// What the computation says.
    pub fn norms(&self) -> Result<BTreeMap<String, f64>> {
        let one = |(name, gradient): (&String, &Tensor)| {
            let squares = gradient.to_dtype(DType::F64)?.sqr()?.sum_all()?;
            Ok((name.clone(), squares.to_scalar::<f64>()?.sqrt()))
        };
        self.0.iter().map(one).collect()
    }
}

/// The norm of all gradients together: the root of the sum of the norms' squares.
pub fn total_norm(norms: &BTreeMap<String, f64>) -> f64 {
    norms.values().map(|norm| norm * norm).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::train::variables::Frozen;

    #[test]
    fn gradients_have_names_and_norms_and_what_plays_no_part_has_none() {
        let mut variables = Variables::default();
        for (name, values) in [
            ("a", [3f32, 4.0]),
            ("b", [1.0, 2.0]),
            ("unused", [0.0, 0.0]),
        ] {
            let tensor = Tensor::new(&values, &Device::Cpu).unwrap();
            let all = Frozen::default();
            variables.insert(name.to_owned(), &tensor, &all).unwrap();
        }
        // a·a/2 + 12·b₀: the gradients are a and (12, 0).
        let [a, b] = ["a", "b"].map(|name| variables.get(name).unwrap());
        let first = (a.sqr().unwrap().sum_all().unwrap() * 0.5).unwrap();
        let second = (b.get(0).unwrap() * 12.0).unwrap();
        let gradients = Gradients::of(&(first + second).unwrap(), &variables).unwrap();
        assert_eq!(gradients.names().collect::<Vec<_>>(), ["a", "b"]);
        let norms = gradients.norms().unwrap();
        assert_eq!(
            norms,
            BTreeMap::from([("a".to_owned(), 5.0), ("b".to_owned(), 12.0)])
        );
        assert!((total_norm(&norms) - 13.0).abs() < 1e-12);
        assert!(gradients.get("unused").is_none());
    }
}
