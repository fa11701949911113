//! Features of an image: the sum of each channel over each cell of a pooling grid, times `cells / pixels`, which is the
//! mean if all cells have the same size. Feature index: `cell · channels + channel`. A fully connected layer has one
//! cell, so its outputs are the features.

use core::ops::Range;

/// Maximum number of cells along an axis.
pub const MAX_GRID: u8 = 16;

/// A pooling grid over an image `[height, width, channels]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolingGrid {
    /// Number of cells along each axis.
    pub cells: [usize; 2],
    /// Number of pixels along each axis.
    pub extent: [usize; 2],
    /// Number of channels.
    pub channels: usize,
}

impl PoolingGrid {
    /// `grid` cells along each axis, but no more than it has pixels.
    pub fn new(grid: usize, extent: [usize; 2], channels: usize) -> Self {
        Self { cells: extent.map(|e| grid.clamp(1, e.max(1))), extent, channels }
    }

    /// Number of features.
    pub fn features(&self) -> usize {
        self.cells[0] * self.cells[1] * self.channels
    }

    /// Mean number of pixels in a cell, as numerator and denominator.
    pub fn cell_pixels(&self) -> (usize, usize) {
        (self.extent[0] * self.extent[1], self.cells[0] * self.cells[1])
    }

    /// First pixel of a cell along an axis; for the cell after the last, the extent.
    #[inline]
    fn edge(&self, axis: usize, cell: usize) -> usize {
        cell * self.extent[axis] / self.cells[axis]
    }

    /// Rows and columns of a cell. Cells are numbered row by row.
    #[inline]
    pub fn cell(&self, cell: usize) -> (Range<usize>, Range<usize>) {
        let (row, column) = (cell / self.cells[1], cell % self.cells[1]);
        (self.edge(0, row)..self.edge(0, row + 1), self.edge(1, column)..self.edge(1, column + 1))
    }

    /// Calls `each(element)` with the index in the image of every pixel of a feature.
    #[inline]
    pub fn pixels(&self, feature: usize, mut each: impl FnMut(usize)) {
        let (cell, channel) = (feature / self.channels, feature % self.channels);
        let (rows, columns) = self.cell(cell);
        for y in rows {
            for x in columns.clone() {
                each((y * self.extent[1] + x) * self.channels + channel);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pixel_belongs_to_one_feature() {
        for (grid, extent) in [(4, [5, 25]), (4, [4, 4]), (2, [7, 3]), (1, [9, 9]), (9, [2, 5])] {
            let grid = PoolingGrid::new(grid, extent, 3);
            let mut seen = vec![0; extent[0] * extent[1] * 3];
            for j in 0..grid.features() {
                grid.pixels(j, |at| {
                    seen[at] += 1;
                    assert_eq!(at % 3, j % 3);
                });
            }
            assert!(seen.iter().all(|&n| n == 1), "{grid:?}");
        }
    }
}
