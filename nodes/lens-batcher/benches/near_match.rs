//! A near match among many hashes: by the index, and by a look at all of them.
//!
//! `cargo bench` prints both; half of the hashes asked for have a neighbour within the radius.
#![allow(missing_docs)]

use divan::{Bencher, black_box};
use tracklens_lens_batcher::hash_index::{HashIndex, nearest_of_all};
use tracklens_lens_batcher::perceptual_hash::PerceptualHash;

const SIZES: [usize; 3] = [1_000, 10_000, 100_000];
/// LENS_CACHE_SIMILARITY_THRESHOLD of 0.95 and 0.90, in bits.
const RADII: [u32; 2] = [3, 6];

fn main() {
    divan::main();
}

fn hashes(count: usize) -> Vec<PerceptualHash> {
    let mut random = fastrand::Rng::with_seed(1);
    (0..count).map(|_| PerceptualHash(random.u64(..))).collect()
}

fn asked(known: &[PerceptualHash], radius: u32) -> Vec<PerceptualHash> {
    let mut random = fastrand::Rng::with_seed(2);
    (0..1000)
        .map(|at| match at % 2 {
            0 => PerceptualHash(random.u64(..)),
            _ => {
                let near = known[random.usize(..known.len())].0;
                PerceptualHash((0..radius).fold(near, |hash, _| hash ^ (1 << random.u32(..64))))
            }
        })
        .collect()
}

#[divan::bench(args = SIZES, consts = RADII)]
fn index<const RADIUS: u32>(bencher: Bencher<'_, '_>, size: usize) {
    let known = hashes(size);
    let mut index = HashIndex::new(RADIUS);
    known.iter().for_each(|hash| index.insert(*hash));
    let asked = asked(&known, RADIUS);
    let mut turn = asked.iter().cycle();
    bencher.bench_local(|| index.nearest(*black_box(turn.next().unwrap_or(&asked[0]))));
}

#[divan::bench(args = SIZES, consts = RADII)]
fn look_at_all<const RADIUS: u32>(bencher: Bencher<'_, '_>, size: usize) {
    let known = hashes(size);
    let asked = asked(&known, RADIUS);
    let mut turn = asked.iter().cycle();
    bencher.bench_local(|| {
        nearest_of_all(black_box(&known), *turn.next().unwrap_or(&asked[0]), RADIUS)
    });
}
