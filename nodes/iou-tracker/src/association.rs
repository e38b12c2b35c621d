//! Which detection is which track: the one-to-one assignment with the greatest sum of overlaps.
//!
//! The Hungarian method (Kuhn 1955, Munkres 1957) over intersection over union, as in SORT (Bewley
//! et al., 2016).

use pathfinding::kuhn_munkres::kuhn_munkres;
use pathfinding::matrix::Matrix;

/// Overlaps are compared as whole numbers of this size, which makes them totally ordered.
const UNIT: f32 = 1_000_000.0;

/// Pairs `(track, detection)` of so many of each by index, ordered by track; `overlap` of a track
/// and a detection is their intersection over union, and pairs of less than `min_iou` are never
/// made.
#[must_use]
pub fn associate(
    tracks: usize,
    detections: usize,
    min_iou: f32,
    overlap: impl Fn(usize, usize) -> f32,
) -> Vec<(usize, usize)> {
    if tracks == 0 || detections == 0 {
        return Vec::new();
    }
    // The solver wants no more rows than columns.
    let turned = tracks > detections;
    let (rows, columns) = if turned {
        (detections, tracks)
    } else {
        (tracks, detections)
    };
    let weights = Matrix::from_fn(rows, columns, |(row, column)| {
        let iou = if turned {
            overlap(column, row)
        } else {
            overlap(row, column)
        };
        if iou.is_finite() && iou >= min_iou {
            (iou * UNIT) as i64
        } else {
            0
        }
    });
    let (_, chosen) = kuhn_munkres(&weights);
    let mut pairs: Vec<(usize, usize)> = chosen
        .into_iter()
        .enumerate()
        .filter(|&pair| weights[pair] > 0)
        .map(|(row, column)| if turned { (column, row) } else { (row, column) })
        .collect();
    pairs.sort_unstable();
    pairs
}

#[cfg(test)]
mod tests {
    use tracklens_schemas::BBox;

    fn associate(tracks: &[BBox], found: &[BBox], min_iou: f32) -> Vec<(usize, usize)> {
        super::associate(tracks.len(), found.len(), min_iou, |track, detection| {
            tracks[track].iou(&found[detection])
        })
    }

    fn square(x: f32) -> BBox {
        BBox {
            x0: x,
            y0: 0.0,
            x1: x + 10.0,
            y1: 10.0,
        }
    }

    #[test]
    fn prefers_the_best_sum_over_the_best_single_pair() {
        let pairs = associate(
            &[square(0.0), square(4.0)],
            &[square(3.0), square(8.0)],
            0.1,
        );
        assert_eq!(pairs, [(0, 0), (1, 1)]);
    }

    #[test]
    fn leaves_out_what_hardly_overlaps() {
        assert_eq!(
            associate(&[square(0.0)], &[square(9.0), square(50.0)], 0.1),
            []
        );
    }

    #[test]
    fn takes_more_tracks_than_detections() {
        let tracks = [square(0.0), square(20.0), square(40.0)];
        assert_eq!(associate(&tracks, &[square(21.0)], 0.1), [(1, 0)]);
        assert_eq!(associate(&tracks, &[], 0.1), []);
    }
}
