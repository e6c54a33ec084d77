//! Small dense matrices in f64: the covariances of at most thirty actions.

use super::Row;

/// A matrix, row-major.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Matrix {
    n_rows: usize,
    n_columns: usize,
    values: Vec<f64>,
}

impl Matrix {
    /// Makes a matrix from its elements by row and column.
    pub(super) fn from_fn(
        n_rows: usize,
        n_columns: usize,
        mut element: impl FnMut(usize, usize) -> f64,
    ) -> Self {
        let mut values = Vec::with_capacity(n_rows * n_columns);
        for row in 0..n_rows {
            values.extend((0..n_columns).map(|column| element(row, column)));
        }
        Self {
            n_rows,
            n_columns,
            values,
        }
    }

    pub(super) fn n_rows(&self) -> usize {
        self.n_rows
    }

    pub(super) fn at(&self, row: usize, column: usize) -> f64 {
        self.values[row * self.n_columns + column]
    }

    /// The product with another matrix of as many rows as this one has columns.
    pub(super) fn times(&self, other: &Self) -> Self {
        Self::from_fn(self.n_rows, other.n_columns, |row, column| {
            let inner = 0..self.n_columns;
            inner.map(|k| self.at(row, k) * other.at(k, column)).sum()
        })
    }

    pub(super) fn transposed(&self) -> Self {
        Self::from_fn(self.n_columns, self.n_rows, |row, column| {
            self.at(column, row)
        })
    }

    /// The product with a list of actions, in each of their directions.
    pub(super) fn apply(&self, actions: &[Row]) -> Vec<Row> {
        let product = |row: usize| {
            let line = &self.values[row * self.n_columns..][..self.n_columns];
            line.iter()
                .zip(actions)
                .fold([0.0; 2], |[x, y], (factor, action)| {
                    [x + factor * action[0], y + factor * action[1]]
                })
        };
        (0..self.n_rows).map(product).collect()
    }

    /// The inverse of a symmetric positive definite matrix by Cholesky's factors; `None` of any other.
    pub(super) fn inverse(&self) -> Option<Self> {
        let n = self.n_rows;
        let mut lower = vec![0.0; n * n];
        for row in 0..n {
            for column in 0..=row {
                let before = (0..column).map(|k| lower[row * n + k] * lower[column * n + k]);
                let rest = self.at(row, column) - before.sum::<f64>();
                lower[row * n + column] = if row == column {
                    if rest.is_nan() || rest <= 0.0 {
                        return None;
                    }
                    rest.sqrt()
                } else {
                    rest / lower[column * n + column]
                };
            }
        }
        let mut inverse = Self::from_fn(n, n, |_, _| 0.0);
        let mut solution = vec![0.0; n];
        for column in 0..n {
            for row in 0..n {
                let unit = if row == column { 1.0 } else { 0.0 };
                let before = (0..row).map(|k| lower[row * n + k] * solution[k]);
                solution[row] = (unit - before.sum::<f64>()) / lower[row * n + row];
            }
            for row in (0..n).rev() {
                let after = (row + 1..n).map(|k| lower[k * n + row] * solution[k]);
                solution[row] = (solution[row] - after.sum::<f64>()) / lower[row * n + row];
            }
            for (row, value) in solution.iter().enumerate() {
                inverse.values[row * n + column] = *value;
            }
        }
        Some(inverse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inverse_undoes_its_matrix() {
        let matrix = Matrix::from_fn(3, 3, |row, column| {
            [[4.0, 1.0, 0.5], [1.0, 3.0, -0.25], [0.5, -0.25, 2.0]][row][column]
        });
        let unit = matrix.times(&matrix.inverse().unwrap());
        for row in 0..3 {
            for column in 0..3 {
                let want = if row == column { 1.0 } else { 0.0 };
                assert!((unit.at(row, column) - want).abs() < 1e-15, "{unit:?}");
            }
        }
    }

    #[test]
    fn what_is_not_positive_definite_has_no_inverse() {
        let indefinite = Matrix::from_fn(2, 2, |_, _| 1.0);
        assert!(indefinite.inverse().is_none());
        let odd = Matrix::from_fn(1, 1, |_, _| f64::NAN);
        assert!(odd.inverse().is_none());
    }

    #[test]
    fn actions_are_multiplied_in_both_directions() {
        let matrix = Matrix::from_fn(1, 2, |_, column| [2.0, -1.0][column]);
        assert_eq!(matrix.apply(&[[1.0, 10.0], [3.0, 5.0]]), [[-1.0, 15.0]]);
        let back = matrix.transposed();
        assert_eq!(back.apply(&[[1.0, 2.0]]), [[2.0, 4.0], [-1.0, -2.0]]);
        assert_eq!(back.n_rows(), 2);
    }
}
