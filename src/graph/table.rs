//! Tables by class and place: numbers that are added to sums, or scale and shift values.

use crate::model::weights::Tensor;

/// Numbers `[classes, rows, columns, width]`; an axis along which they are constant has length 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Lengths of the axes: classes, rows, columns.
    pub axes: [usize; 3],
    /// Numbers at a place.
    pub width: usize,
    /// All numbers, row-major.
    pub data: Vec<f32>,
}

impl Table {
    fn zeros(axes: [usize; 3], width: usize) -> Self {
        Self { axes, width, data: vec![0.0; axes.iter().product::<usize>() * width] }
    }

    /// A tensor `[width]`, `[classes, width]` or `[classes, rows, columns, width]`.
    pub fn of(tensor: &Tensor) -> Self {
        let (axes, width) = axes_of(&tensor.shape).expect("checked when the model was loaded");
        Self { axes, width, data: tensor.data.clone() }
    }

    /// Strides from one class, row and column to the next; 0 along axes of length 1.
    pub fn strides(&self) -> [usize; 3] {
        let [classes, rows, columns] = self.axes;
        let lengths = [rows * columns * self.width, columns * self.width, self.width];
        std::array::from_fn(|axis| if [classes, rows, columns][axis] > 1 { lengths[axis] } else { 0 })
    }

    /// The numbers for a class and a pixel. Models without classes have class 0.
    pub fn at(&self, class: usize, row: usize, column: usize) -> &[f32] {
        let [of_class, of_row, of_column] = self.strides();
        let start = class * of_class + row * of_row + column * of_column;
        &self.data[start..start + self.width]
    }

    /// True if the numbers differ from pixel to pixel.
    pub fn is_map(&self) -> bool {
        self.axes[1] > 1 || self.axes[2] > 1
    }

    /// The same numbers, padded: from `[halves, channels]` at a place to `[halves, wide]`.
    pub fn padded(&self, halves: usize, wide: usize) -> Self {
        let channels = self.width / halves;
        let mut padded = Self::zeros(self.axes, halves * wide);
        for (to, from) in padded.data.chunks_mut(wide).zip(self.data.chunks(channels)) {
            to[..channels].copy_from_slice(from);
        }
        padded
    }

    /// Some channels of each half.
    pub fn channels(&self, halves: usize, range: &std::ops::Range<usize>) -> Self {
        let of_half = self.width / halves;
        let data = self.data.chunks(of_half).flat_map(|half| &half[range.clone()]).copied().collect();
        Self { width: halves * range.len(), data, ..*self }
    }

    /// Adds another table, whose axes must be as long as this one's or 1; one of half the width applies to
    /// each half.
    fn add(&mut self, other: &Self) {
        let [_, rows, columns] = self.axes;
        for (place, to) in self.data.chunks_mut(self.width).enumerate() {
            let from = other.at(place / (rows * columns), place / columns % rows, place % columns);
            for half in to.chunks_mut(other.width) {
                half.iter_mut().zip(from).for_each(|(sum, x)| *sum += x);
            }
        }
    }

    /// The sum of some tables.
    pub fn sum(tables: &[Self], width: usize) -> Self {
        let mut sum = Self::zeros(tables.iter().fold([1; 3], |axes, table| union(axes, table.axes)), width);
        tables.iter().for_each(|table| sum.add(table));
        sum
    }

    /// The same sum as few tables, none of them larger than those given: a row's and a column's numbers together would
    /// be a map.
    pub fn sums(tables: Vec<Self>, width: usize) -> Vec<Self> {
        let mut sums: Vec<Vec<Self>> = Vec::new();
        for table in tables {
            let fits = |group: &&mut Vec<Self>| {
                let axes = group.iter().fold([1; 3], |axes, table| union(axes, table.axes));
                let all = union(axes, table.axes);
                all == axes || all == table.axes
            };
            match sums.iter_mut().find(fits) {
                Some(group) => group.push(table),
                None => sums.push(vec![table]),
            }
        }
        if sums.is_empty() {
            sums.push(Vec::new());
        }
        sums.iter().map(|group| Self::sum(group, width)).collect()
    }
}

fn union(a: [usize; 3], b: [usize; 3]) -> [usize; 3] {
    std::array::from_fn(|axis| a[axis].max(b[axis]))
}

/// The axes that a tensor has before its channels, classes, rows and columns, and its channels.
pub fn axes_of(shape: &[usize]) -> Option<([usize; 3], usize)> {
    match *shape {
        [width] => Some(([1, 1, 1], width)),
        [classes, width] => Some(([classes, 1, 1], width)),
        [classes, rows, columns, width] => Some(([classes, rows, columns], width)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_do_not_explode() {
        let table = |axes: [usize; 3]| {
            let count = axes.iter().product::<usize>();
            Table { axes, width: 1, data: (1..=count).map(|i| i as f32).collect() }
        };
        let [bias, class, row, column] = [[1, 1, 1], [3, 1, 1], [1, 5, 1], [1, 1, 7]].map(table);
        let sums = Table::sums(vec![bias.clone(), class, row, column.clone()], 1);
        assert_eq!(sums.iter().map(|t| t.axes).collect::<Vec<_>>(), [[3, 1, 1], [1, 5, 1], [1, 1, 7]]);
        let at = |tables: &[Table]| tables.iter().map(|t| t.at(2, 4, 6)[0]).sum::<f32>();
        assert_eq!(at(&sums), 1.0 + 3.0 + 5.0 + 7.0);
        // A map absorbs the tables that it covers.
        let sums = Table::sums(vec![bias, column, table([1, 5, 7])], 1);
        assert_eq!(sums.len(), 1);
        assert_eq!(at(&sums), 1.0 + 7.0 + 35.0);
    }
}
