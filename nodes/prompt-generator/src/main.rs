//! The prompt-generator node: frames and tracks in, prompts out.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Deserialize;
use tracklens_node::{BadMessage, Context, Message, Node, Outputs, StreamChange, Work};
use tracklens_prompt_generator::{
    DetectionsUse, Prompter, Rules, Strategies, StrategyKind, TracksUse, detections,
};
use tracklens_schemas::arrow::array::ArrayRef;
use tracklens_schemas::{
    Header, Mask, Metadata, Prompt, PromptsInfo, StreamEventKind, StreamId, TracksInfo, prompts,
    tracks,
};

/// Prompts by the strategy that made them (counter; `strategy`).
const PROMPTS: &str = "sam2_prompts_generated_total";

#[derive(Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Settings {
    sam2_prompt_strategy: String,
    grid_prompt_density: usize,
    reprompt_interval: u64,
    prompt_grid_fill: bool,
    max_prompts_per_frame: usize,
    prompt_file: Option<PathBuf>,
    prompt_plugin: Option<PathBuf>,
    prompt_plugin_config: String,
}

/// One frame's prompts, and what is said about the frame.
struct Answered {
    info: PromptsInfo,
    rows: ArrayRef,
}

struct PromptGenerator {
    strategies: Strategies,
    rules: Rules,
    detections: DetectionsUse,
    streams: HashMap<StreamId, Prompter>,
}

#[global_allocator]
static ALLOCATOR: tracklens_node::Allocator = tracklens_node::Allocator;

fn main() -> ExitCode {
    tracklens_node::run::<PromptGenerator>()
}

impl Node for PromptGenerator {
    const NAME: &'static str = "prompt-generator";
    const ABOUT: &'static str = "Says where the tracker should look for objects.";
    const SETTINGS: &'static [&'static str] = &[
        "SAM2_PROMPT_STRATEGY",
        "GRID_PROMPT_DENSITY",
        "REPROMPT_INTERVAL",
        "PROMPT_GRID_FILL",
        "MAX_PROMPTS_PER_FRAME",
        "PROMPT_FILE",
        "PROMPT_PLUGIN",
        "PROMPT_PLUGIN_CONFIG",
    ];
    type Settings = Settings;
    type Parcel = Answered;

    fn new(settings: Settings, ctx: &mut Context<Answered>) -> eyre::Result<Self> {
        let kind = StrategyKind::named(&settings.sam2_prompt_strategy)?;
        let plugin = settings.prompt_plugin.as_deref();
        eyre::ensure!(
            plugin.is_some() || kind != StrategyKind::Detector || ctx.has_input("detections"),
            "SAM2_PROMPT_STRATEGY=detector needs boxes: connect the input `detections` to a \
             detector, as graphs/detector-prompted.yml does"
        );
        let strategies = match plugin {
            Some(path) => Strategies::plugin(path, &settings.prompt_plugin_config)?,
            None => Strategies::new(
                kind,
                settings.grid_prompt_density,
                settings.prompt_file.as_deref(),
            )?,
        };
        let tracks = match (ctx.has_input("tracks"), ctx.live()) {
            (false, _) => TracksUse::None,
            (true, true) => TracksUse::Newest,
            (true, false) => TracksUse::Exact {
                restarted: ctx.restart_count() > 0,
            },
        };
        // A sender that takes part in credit repeats what is lost; only such a one is waited for.
        let detections = match ctx.live() || !ctx.outputs().wanted("credit_detections") {
            true => DetectionsUse::Newest,
            false => DetectionsUse::Exact,
        };
        match &settings.prompt_plugin {
            Some(plugin) => tracing::info!(plugin = %plugin.display(), ?tracks, "ready"),
            None => tracing::info!(strategy = settings.sam2_prompt_strategy, ?tracks, "ready"),
        }
        Ok(Self {
            strategies,
            rules: Rules {
                interval: settings.reprompt_interval,
                fill: settings.prompt_grid_fill,
                most: settings.max_prompts_per_frame,
                tracks,
            },
            detections,
            streams: HashMap::new(),
        })
    }

    fn input(
        &mut self,
        ctx: &mut Context<Answered>,
        input: &str,
        message: Message,
    ) -> Result<(), BadMessage> {
        let result = match input {
            "frames" => self.frame(&message),
            "tracks" => {
                // Read is finished with. Were it kept until the next look, the tracker would wait
                // for us with its own acknowledgements, and we for the frames that they hold back.
                ctx.done(input, &message.header);
                self.tracks(&message)
            }
            "detections" => self.detections(ctx, &message),
            _ => Ok(()),
        };
        self.answer(ctx, &message.header.id.stream);
        result
    }

    fn stream(&mut self, ctx: &mut Context<Answered>, change: &StreamChange) -> eyre::Result<()> {
        match change.event {
            StreamEventKind::Opened => {
                if let Some(prompter) = self.streams.get_mut(&change.stream) {
                    prompter.begin(change.epoch);
                }
                self.answer(ctx, &change.stream);
            }
            StreamEventKind::Closed => {
                if let Some(prompter) = self.streams.get_mut(&change.stream) {
                    prompter.release();
                }
                self.answer(ctx, &change.stream);
                self.streams.remove(&change.stream);
            }
            _ => {}
        }
        Ok(())
    }

    fn work(&mut self, ctx: &mut Context<Answered>) -> eyre::Result<Work> {
        // What an acknowledgement has released.
        let waiting = self.streams.iter().filter(|(_, p)| p.waiting() > 0);
        let waiting: Vec<StreamId> = waiting.map(|(stream, _)| stream.clone()).collect();
        for stream in waiting {
            self.answer(ctx, &stream);
        }
        Ok(Work::Wait)
    }

    fn send(
        &mut self,
        outputs: &mut Outputs,
        header: &Header,
        answered: &Answered,
    ) -> eyre::Result<()> {
        let mut metadata = Metadata::default();
        answered.info.write(&mut metadata);
        outputs.rows("prompts", header, metadata, answered.rows.clone())
    }

    fn acknowledged(&mut self, header: &Header) {
        if let Some(prompter) = self.streams.get_mut(&header.id.stream) {
            prompter.acknowledged(header.id.epoch, header.id.frame);
        }
    }

    fn finish(&mut self, _: &mut Context<Answered>) -> eyre::Result<()> {
        Ok(())
    }
}

impl PromptGenerator {
    fn prompter(&mut self, stream: &StreamId) -> &mut Prompter {
        let (rules, strategies, detections) = (self.rules, &self.strategies, self.detections);
        self.streams
            .entry(stream.clone())
            .or_insert_with(|| Prompter::new(rules, strategies.make()).with_detections(detections))
    }

    fn frame(&mut self, message: &Message) -> Result<(), BadMessage> {
        let image = message.image()?;
        self.prompter(&message.header.id.stream)
            .frame(&message.header, &image);
        Ok(())
    }

    fn tracks(&mut self, message: &Message) -> Result<(), BadMessage> {
        let id = &message.header.id;
        let masks = visible_masks(message);
        let prompter = self.prompter(&id.stream);
        prompter.begin(id.epoch);
        prompter.tracks(id.epoch, id.frame, masks.as_ref().ok().cloned());
        masks.map(|_| ())
    }

    fn detections(
        &mut self,
        ctx: &mut Context<Answered>,
        message: &Message,
    ) -> Result<(), BadMessage> {
        let id = &message.header.id;
        let found = detections::candidates(&message.array, &message.metadata);
        let prompter = self.prompter(&id.stream);
        if !prompter.detections(id.epoch, id.frame, found.as_ref().ok().cloned()) {
            ctx.done("detections", &message.header);
        }
        found.map(|_| ()).map_err(BadMessage::from)
    }

    /// Queues the answers that are ready.
    fn answer(&mut self, ctx: &mut Context<Answered>, stream: &StreamId) {
        let Some(prompter) = self.streams.get_mut(stream) else {
            return;
        };
        while let Some(answer) = prompter.next_answer() {
            count(&answer.prompts);
            let answered = Answered {
                info: PromptsInfo {
                    scene_cut: answer.cut,
                },
                rows: prompts::encode(&answer.prompts),
            };
            ctx.queue(answer.header, answered);
        }
    }
}

/// The masks of what is seen.
fn visible_masks(message: &Message) -> Result<Vec<Mask>, BadMessage> {
    let info = TracksInfo::read(&message.metadata)?;
    let rows = tracks::decode(&message.array, info.width, info.height)?;
    Ok(rows
        .into_iter()
        .filter(|track| track.visible)
        .map(|track| track.mask)
        .collect())
}

fn count(prompts: &[Prompt]) {
    for prompt in prompts {
        metrics::counter!(PROMPTS, "strategy" => prompt.strategy.clone()).increment(1);
    }
}
