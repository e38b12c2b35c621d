//! What each strategy costs and finds: `look FILE WIDTH HEIGHT [strategy or plug-in]` reads raw yuv420p frames,
//! as `ffmpeg -i clip.mp4 -vf scale=1280:720 -pix_fmt yuv420p clip.yuv` writes them.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use tracklens_prompt_generator::{
    CutDetector, Prompter, Rules, Strategies, StrategyKind, TracksUse,
};
use tracklens_schemas::{Epoch, FrameId, FrameIndex, Header, Image, ImageInfo, PixelEncoding};

/// Milliseconds that this thread has run: machines are shared.
fn cpu_ms() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanoseconds: f64 = text.split(' ').next().unwrap().parse().unwrap();
    nanoseconds / 1e6
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let data = std::fs::read(&arguments[0]).unwrap();
    let (width, height) = (arguments[1].parse().unwrap(), arguments[2].parse().unwrap());
    let info = ImageInfo::new(width, height, PixelEncoding::Yuv420p);
    let frames: Vec<&[u8]> = data.chunks_exact(info.byte_len()).collect();

    let mut detector = CutDetector::default();
    let distances: Vec<f32> = frames
        .iter()
        .map(|frame| detector.distance(&Image::new(info, frame).unwrap()))
        .collect();
    let largest = distances.iter().copied().fold(0.0, f32::max);
    println!("{} frames, largest cut distance {largest:.3}", frames.len());

    let built_in = ["grid", "motion", "saliency", "hybrid"];
    let names = arguments
        .get(3)
        .map_or(built_in.to_vec(), |name| vec![name]);
    for name in names {
        let rules = Rules {
            interval: 60,
            fill: true,
            most: 256,
            tracks: TracksUse::None,
        };
        let strategies = match name.ends_with(".so") {
            true => Strategies::plugin(name.as_ref(), "{}").unwrap(),
            false => Strategies::new(StrategyKind::named(name).unwrap(), 16, None).unwrap(),
        };
        let mut prompter = Prompter::new(rules, strategies.make());
        let (mut look_ms, mut other_ms, mut looks, mut count) = (0.0, 0.0, 0, 0);
        for (index, frame) in frames.iter().enumerate() {
            let header = Header {
                id: FrameId {
                    stream: "clip".parse().unwrap(),
                    epoch: Epoch(0),
                    frame: FrameIndex(index as u64),
                },
                pts_ns: 0,
                capture_ns: 0,
            };
            let start = cpu_ms();
            prompter.frame(&header, &Image::new(info, frame).unwrap());
            let prompts = prompter.next_answer().unwrap().prompts;
            let ms = cpu_ms() - start;
            if prompts.is_empty() {
                other_ms += ms;
                continue;
            }
            look_ms += ms;
            looks += 1;
            count += prompts.len();
            if arguments.get(3).is_some() {
                println!("frame {index}: {} prompts", prompts.len());
                for prompt in prompts.iter().take(12) {
                    println!(
                        "  {} {:.2} {:?} {:?}",
                        prompt.strategy, prompt.score, prompt.points, prompt.bbox
                    );
                }
            }
        }
        let others = frames.len() - looks;
        println!(
            "{name}: {looks} looks of {:.2} ms, other frames {:.3} ms, mean {:.3} ms; {count} prompts",
            look_ms / looks.max(1) as f64,
            other_ms / others.max(1) as f64,
            (look_ms + other_ms) / frames.len() as f64,
        );
    }
}
