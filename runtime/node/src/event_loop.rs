//! The event loop: events in, acknowledgements and credit, streams' ends, stop, drain and flush.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use dora_node_api::futures::channel::mpsc;
use dora_node_api::futures::future::{Either, select};
use dora_node_api::futures::{StreamExt, executor::block_on};
use dora_node_api::{DoraArray, DoraNode, Event, EventStream, TryRecvError};
use eyre::WrapErr;
use tracklens_schemas::{
    Credit, FrameId, FrameIndex, Header, Shard, StreamEvent, StreamEventKind, StreamId, credit,
    keys, stream_events,
};

use crate::acknowledger::Acknowledger;
use crate::alarm::Alarm;
use crate::context::{Context, Outputs, Waker, credit_output, exhausted};
use crate::endings::{Ending, Endings, Words};
use crate::inbox::{Arrival, Inbox};
use crate::last_words::LastWords;
use crate::load::LoadMeter;
use crate::outbox::{Outbox, Policy};
use crate::settings::{self, Resolved};
use crate::streams::{LifeCycle, StreamChange, StreamTable};
use crate::together::Together;
use crate::wiring::{Connected, Informal, Wiring, farewell};
use crate::{BadMessage, Message, Node, Work, logging, metrics, transport, wire};

/// How often time-outs are looked at while nothing happens.
const TICK: Duration = Duration::from_millis(500);
/// An input that has been silent for this long says `hello` again: what was sent to it and lost on
/// the way is repeated.
const IDLE: Duration = Duration::from_secs(1);
/// Messages that may wait on an edge that does not say how many (`DEFAULT_QUEUE_SIZE` of dora-message).
const DEFAULT_QUEUE_SIZE: usize = 10;
/// The settings of the event loop itself.
const SETTINGS: &[&str] = &[
    "FLOW_MODE",
    "FLOW_WINDOW",
    "METRICS_ENABLED",
    "METRICS_PORT",
    "STREAM_STALE_TIMEOUT_SECONDS",
    "STREAM_CLEANUP_TIMEOUT_SECONDS",
    "SHARD",
    "TRIAL_DELAY_MS",
    "TRIAL_DELAY_SECONDS",
];

#[derive(serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct LoopSettings {
    flow_mode: String,
    flow_window: usize,
    metrics_enabled: bool,
    metrics_port: u16,
    stream_stale_timeout_seconds: f64,
    stream_cleanup_timeout_seconds: f64,
    shard: Option<Shard>,
    trial_delay_ms: u64,
    trial_delay_seconds: f64,
}

/// The `main` of every node.
pub fn run<N: Node>() -> ExitCode {
    if std::env::args().any(|argument| argument == "--help" || argument == "-h") {
        crate::help::print::<N>();
        return ExitCode::SUCCESS;
    }
    run_wired::<N>(|_| Ok(()))
}

/// The `main` of a node that adds edges to those that the graph declares.
pub fn run_wired<N: Node>(wire: impl FnOnce(&mut Wiring) -> eyre::Result<()>) -> ExitCode {
    logging::start();
    transport::make_room();
    match connect(wire).and_then(|(node, events, informal)| {
        start::<N>(node, events, informal, |name| std::env::var(name).ok())
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(node = N::NAME, "{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The connection comes first: an output that is slow to appear stays on dora's slow path.
fn connect(wire: impl FnOnce(&mut Wiring) -> eyre::Result<()>) -> eyre::Result<Connected> {
    let Some(mut wiring) = Wiring::from_env()? else {
        let (node, events) = DoraNode::init_from_env_force().wrap_err(
            "this is a node of a dora dataflow: start it with `dora run graphs/file.yml` \
             (`--help` lists its settings)",
        )?;
        return Ok((node, events, BTreeSet::new()));
    };
    let flow_mode = std::env::var("FLOW_MODE").ok();
    wiring.listen_to_recorder(flow_mode.as_deref())?;
    wire(&mut wiring)?;
    wiring.connect_informal()
}

/// Runs a node on a given connection and environment, to its end.
///
/// # Errors
/// Wrong settings, or whatever ended the node.
pub fn run_with<N: Node>(
    node: DoraNode,
    events: EventStream,
    environment: impl Fn(&str) -> Option<String>,
) -> eyre::Result<()> {
    start::<N>(node, events, BTreeSet::new(), environment)
}

fn start<N: Node>(
    node: DoraNode,
    events: EventStream,
    informal: BTreeSet<String>,
    environment: impl Fn(&str) -> Option<String>,
) -> eyre::Result<()> {
    let mut names = SETTINGS.to_vec();
    names.extend(N::SETTINGS.iter().filter(|name| !SETTINGS.contains(name)));
    let resolved = settings::resolve(&names, environment)?;
    for warning in &resolved.warnings {
        tracing::warn!(node = N::NAME, "{warning}");
    }
    let mut shell = Shell::<N>::new(node, events, informal, &resolved)?;
    shell.run()
}

/// Makes a node slower than it is, to try out what an overload does to a graph.
struct TrialDelay {
    each: Duration,
    until: Option<Instant>,
}

impl TrialDelay {
    fn wait(&self) {
        if !self.each.is_zero() && self.until.is_none_or(|until| Instant::now() < until) {
            std::thread::sleep(self.each);
        }
    }
}

struct Shell<N: Node> {
    node: N,
    ctx: Context<N::Parcel>,
    events: EventStream,
    woken: mpsc::Receiver<()>,
    streams: StreamTable,
    /// The part of all streams that this node takes.
    shard: Option<Shard>,
    window: u32,
    trial_delay: TrialDelay,
    last_arrival: BTreeMap<String, Instant>,
    acknowledger: Acknowledger,
    endings: Endings,
    alarm: Alarm,
    last_tick: Instant,
    /// `stream_events*` inputs that have not said `exhausted`.
    open_sources: BTreeSet<String>,
    bad_messages: BTreeMap<String, u64>,
    /// Consumers of whose end dora will not tell.
    informal: Informal,
}

impl<N: Node> Shell<N> {
    fn new(
        node: DoraNode,
        events: EventStream,
        informal: BTreeSet<String>,
        resolved: &Resolved,
    ) -> eyre::Result<Self> {
        let own: LoopSettings = resolved.typed()?;
        let config = node.node_config();
        let inputs: Vec<String> = config.inputs.keys().map(ToString::to_string).collect();
        let declared: BTreeSet<String> = config.outputs.iter().map(ToString::to_string).collect();
        let test_mode = inputs.is_empty() && declared.is_empty();
        let live = own.flow_mode == "live";
        let policy = if live {
            N::LIVE_POLICY
        } else {
            Policy::Reliable
        };
        let consumers = inputs
            .iter()
            .filter(|id| id.starts_with("credit_"))
            .cloned();
        let inboxes: BTreeMap<String, Inbox> = inputs
            .iter()
            .filter(|id| declared.contains(&credit_output(id)))
            .map(|id| (id.clone(), Inbox::new(!live || N::SOURCE)))
            .collect();
        let edges = config.inputs.iter();
        let queues = edges
            .filter(|(id, _)| inboxes.contains_key(id.as_str()))
            .map(|(_, input)| input.queue_size.unwrap_or(DEFAULT_QUEUE_SIZE));
        let window = queues.fold(own.flow_window, usize::min);
        let window = u32::try_from(window).unwrap_or(u32::MAX);
        let open_sources = inputs
            .iter()
            .filter(|id| id.starts_with("stream_events"))
            .cloned()
            .collect();
        let (wake, woken) = mpsc::channel(1);
        let seconds = Duration::from_secs_f64;
        if own.metrics_enabled {
            let forget = seconds(own.stream_cleanup_timeout_seconds).max(Duration::from_secs(60));
            metrics::serve(own.metrics_port, N::NAME, forget);
        }
        let mut ctx = Context {
            outbox: Outbox::new(policy, own.flow_window, consumers),
            outputs: Outputs {
                node,
                declared: (!test_mode).then_some(declared),
                start: false,
                window: None,
                largest_frame: 0,
            },
            inboxes,
            words: LastWords::default(),
            meter: LoadMeter::default(),
            closing: Vec::new(),
            held: BTreeSet::new(),
            exhausted: false,
            inputs_exhausted: false,
            waker: Waker(wake),
            live,
            stopping: false,
        };
        let node = N::new(
            resolved
                .typed()
                .wrap_err("the node's settings and the settings table disagree")?,
            &mut ctx,
        )?;
        let now = Instant::now();
        Ok(Self {
            node,
            ctx,
            events,
            woken,
            streams: StreamTable::new(LifeCycle {
                stale_after: seconds(own.stream_stale_timeout_seconds),
                close_after: live.then(|| seconds(own.stream_cleanup_timeout_seconds)),
            }),
            shard: own.shard,
            window,
            trial_delay: TrialDelay {
                each: Duration::from_millis(own.trial_delay_ms),
                until: (own.trial_delay_seconds > 0.0)
                    .then(|| now + seconds(own.trial_delay_seconds)),
            },
            last_arrival: BTreeMap::new(),
            acknowledger: Acknowledger::new(window),
            endings: Endings::default(),
            alarm: Alarm::new(now + TICK, now),
            last_tick: now,
            open_sources,
            bad_messages: BTreeMap::new(),
            informal: Informal::new(informal, now),
        })
    }

    fn run(&mut self) -> eyre::Result<()> {
        self.hello_all()?;
        let mut together = Together::new(self.ctx.live, Instant::now());
        loop {
            if together.is_due(Instant::now()) {
                self.pump()?;
                self.acknowledge(false)?;
                if self.is_over() {
                    break;
                }
                together.sent(Instant::now());
            }
            match self.events.try_recv() {
                Ok(event) => {
                    self.event(event)?;
                    if self.endings.overtaken() {
                        self.end()?;
                    }
                }
                Err(TryRecvError::Closed) => break,
                Err(TryRecvError::Empty) => {
                    self.end()?;
                    if self.last_tick.elapsed() >= TICK {
                        self.tick()?;
                    }
                    let work = match self.ctx.stopping {
                        true => Work::Wait,
                        false => self.node.work(&mut self.ctx)?,
                    };
                    if work == Work::Again && together.holds_result(Instant::now()) {
                        continue;
                    }
                    let sent = self.pump()?;
                    self.acknowledge(self.ctx.live)?;
                    if self.is_over() {
                        break;
                    }
                    together.sent(Instant::now());
                    if work == Work::Wait && !sent {
                        match self.wait() {
                            Waited::Event(event) => self.event(*event)?,
                            Waited::Closed => break,
                            Waited::Nothing => {}
                        }
                    }
                }
            }
        }
        self.finish()
    }

    /// What is at hand is finished: queued work is done, sent as far as credit goes, and flushed.
    fn finish(&mut self) -> eyre::Result<()> {
        self.ctx.stopping = true;
        self.end()?;
        while self.node.work(&mut self.ctx)? == Work::Again {
            self.pump()?;
        }
        self.pump()?;
        self.acknowledge(true)?;
        let changes = self.streams.due(Instant::now(), seen(&self.ctx));
        self.apply(changes)?;
        self.node.finish(&mut self.ctx)?;
        self.acknowledge(true)?;
        if self.ctx.words.exhausted {
            let inputs: Vec<String> = self.ctx.inboxes.keys().cloned().collect();
            for input in inputs {
                self.ctx.outputs.credit(&input, &farewell())?;
            }
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        let passes_ends_on = !N::SINK && self.ctx.outputs.wanted("stream_events");
        is_over(
            self.ctx.words.exhausted,
            passes_ends_on,
            self.ctx.outbox.has_consumers(),
        )
    }

    fn wait(&mut self) -> Waited {
        let now = Instant::now();
        let tick = now + TICK;
        let due = self.acknowledger.due(&self.ctx.inboxes, now);
        let alarm = self.alarm.ring_by(due.unwrap_or(tick).min(tick), now);
        let event = pin!(self.events.recv_async());
        match block_on(select(event, select(self.woken.next(), alarm))) {
            Either::Left((Some(event), _)) => Waited::Event(Box::new(event)),
            Either::Left((None, _)) => Waited::Closed,
            Either::Right(_) => Waited::Nothing,
        }
    }

    fn event(&mut self, event: Event) -> eyre::Result<()> {
        match event {
            Event::Input { id, metadata, data } => {
                let id = id.to_string();
                let sent = metadata.timestamp().get_time().to_system_time();
                let queued = sent.elapsed().unwrap_or_default();
                ::metrics::histogram!(metrics::QUEUE, "edge" => id.clone())
                    .record(queued.as_secs_f64());
                self.input(id, &metadata.parameters, data)
            }
            Event::InputClosed { id } => {
                let id = id.to_string();
                if id.starts_with("credit_") {
                    self.ctx.outbox.consumer_gone(&id);
                    return self.node.input_closed(&mut self.ctx, &id);
                }
                self.endings.input_closed(id);
                Ok(())
            }
            Event::NodeRestarted { id } => {
                tracing::info!(upstream = %id, "node restarted");
                ::metrics::counter!(metrics::RESTARTS, "node" => id.to_string()).increment(1);
                // It may be one of our consumers.
                self.ctx.words.all_due(Instant::now());
                self.hello_all()
            }
            Event::Stop(cause) => {
                tracing::debug!(?cause, "stop: draining what is queued");
                self.ctx.stopping = true;
                Ok(())
            }
            Event::Error(error) => {
                tracing::warn!(error, "dora reports an error");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn input(
        &mut self,
        id: String,
        parameters: &dora_node_api::MetadataParameters,
        data: DoraArray,
    ) -> eyre::Result<()> {
        if data.is_empty() && parameters.is_empty() {
            return Ok(());
        }
        let metadata = wire::from_dora(parameters);
        let array = wire::array(data);
        if id.starts_with("credit_") {
            return match credit::decode(&array, &metadata) {
                Ok(credit) => self.credit(&id, &credit),
                Err(error) => self.bad(&id, None, &error.into()),
            };
        }
        if id.starts_with("stream_events") {
            let rows = match stream_events::decode(&array) {
                Ok(rows) => rows,
                Err(error) => return self.bad(&id, None, &error.into()),
            };
            let header = Header::read(&metadata);
            let input = id;
            return match self.endings.hold(Words {
                input,
                header,
                rows,
            }) {
                Some(words) => self.hear(words),
                None => Ok(()),
            };
        }
        match Header::read(&metadata) {
            Ok(header) => self.message(
                &id,
                Message {
                    header,
                    metadata,
                    array,
                },
            ),
            Err(error) => self.bad(&id, None, &error.into()),
        }
    }

    /// What is said of streams.
    fn hear(&mut self, words: Words) -> eyre::Result<()> {
        let Words {
            input,
            header,
            rows,
        } = words;
        for row in rows {
            if row.event == StreamEventKind::Exhausted {
                self.source_exhausted(&input)?;
                continue;
            }
            match &header {
                Ok(header) if !self.owns(&header.id.stream) => {}
                Ok(header) if row.event == StreamEventKind::Closing => {
                    if self.acknowledger.ends(&header.id.stream) {
                        self.ctx.outputs.events(Some(header), &[row])?;
                    }
                }
                Ok(header) => self.stream_event(header, &row)?,
                Err(error) => self.bad(&input, None, &error.clone().into())?,
            }
        }
        Ok(())
    }

    /// The ends that wait.
    fn end(&mut self) -> eyre::Result<()> {
        while let Some(ending) = self.endings.next() {
            match ending {
                Ending::Words(words) => self.hear(words)?,
                Ending::InputClosed(id) => {
                    if self.open_sources.contains(&id) && !self.ctx.stopping {
                        tracing::warn!(input = id, "upstream ended without saying so");
                        self.streams.orphan();
                        self.source_exhausted(&id)?;
                    }
                    self.node.input_closed(&mut self.ctx, &id)?;
                }
            }
        }
        Ok(())
    }

    /// Whether a stream belongs to this node.
    fn owns(&self, stream: &StreamId) -> bool {
        self.shard.is_none_or(|shard| shard.owns(stream))
    }

    fn message(&mut self, input: &str, message: Message) -> eyre::Result<()> {
        let now = Instant::now();
        if !self.owns(&message.header.id.stream) {
            return Ok(());
        }
        self.last_arrival.insert(input.into(), now);
        let id = message.header.id.clone();
        if self.streams.is_over(&id.stream, id.epoch) {
            return self.too_late(input, &id);
        }
        if let Some(inbox) = self.ctx.inboxes.get_mut(input) {
            let start = message.metadata.bool(keys::START).unwrap_or(false);
            if let Ok(window) = message.metadata.int(keys::WINDOW) {
                inbox.window_is(usize::try_from(window).unwrap_or(1));
            }
            match inbox.arrive(&id, start) {
                Arrival::New => {}
                Arrival::Duplicate => {
                    self.acknowledger.repeat(input);
                    return Ok(());
                }
                Arrival::Gap => {
                    tracing::debug!(stream_id = %id.stream, frame = id.frame.0, input, "gap");
                    return self.hello(input);
                }
            }
        }
        let changes = self.streams.frame(&id, now);
        self.apply(changes)?;
        ::metrics::counter!(
            metrics::FRAMES, "stream_id" => id.stream.to_string(), "status" => "received"
        )
        .increment(u64::from(input == "frames"));
        let watch = metrics::Stopwatch::start();
        if input == "frames" {
            self.trial_delay.wait();
        }
        let result = self.node.input(&mut self.ctx, input, message);
        watch.record(input.to_string());
        if let Err(bad) = result {
            self.bad(input, Some(&id), &bad)?;
            self.ctx.finished(input, &id);
        }
        Ok(())
    }

    /// A message of a stream that has been closed here: one that is still being worked on is a
    /// repetition; any other is thrown away, and acknowledged so that its sender does not wait for
    /// it.
    fn too_late(&mut self, input: &str, id: &FrameId) -> eyre::Result<()> {
        let Some(inbox) = self.ctx.inboxes.get_mut(input) else {
            return Ok(());
        };
        match inbox.seen(&id.stream) {
            Some((epoch, _)) if epoch == id.epoch => {
                if inbox.arrive(id, true) == Arrival::New {
                    inbox.done(id);
                }
                self.acknowledger.repeat(input);
                Ok(())
            }
            _ => {
                let credit = self.acknowledger.of(id.clone());
                self.ctx.outputs.credit(input, &credit)
            }
        }
    }

    fn bad(&mut self, input: &str, id: Option<&FrameId>, bad: &BadMessage) -> eyre::Result<()> {
        ::metrics::counter!(
            metrics::BAD_MESSAGES, "input" => input.to_string(), "reason" => bad.reason
        )
        .increment(1);
        let count = self.bad_messages.entry(input.into()).or_default();
        *count += 1;
        if count.is_power_of_two() {
            let stream = id.map_or("unknown", |id| id.stream.as_str());
            let frame = id.map(|id| id.frame.0);
            tracing::warn!(
                input,
                stream_id = stream,
                frame,
                count = *count,
                "bad message: {bad}"
            );
        }
        Ok(())
    }

    fn stream_event(&mut self, header: &Header, event: &StreamEvent) -> eyre::Result<()> {
        let changes = self.streams.event(&header.id, event, Instant::now());
        self.apply(changes)?;
        let due = self.streams.due(Instant::now(), seen(&self.ctx));
        self.apply(due)
    }

    /// Tells the node, and passes on downstream.
    fn apply(&mut self, changes: Vec<StreamChange>) -> eyre::Result<()> {
        for change in changes {
            tracing::info!(
                stream_id = %change.stream, epoch = change.epoch.0, detail = change.detail,
                "stream {}", change.event.as_str()
            );
            if matches!(
                change.event,
                StreamEventKind::Opened | StreamEventKind::Closed
            ) {
                self.acknowledger.forget(&change.stream);
            }
            self.node.stream(&mut self.ctx, &change)?;
            if let Some(state) = metrics::state_after(change.event) {
                metrics::stream_state(&change.stream, state);
            }
            let header = Header {
                id: FrameId {
                    stream: change.stream,
                    epoch: change.epoch,
                    frame: FrameIndex(change.frames),
                },
                pts_ns: 0,
                capture_ns: 0,
            };
            let event = StreamEvent {
                event: change.event,
                detail: change.detail,
            };
            if !N::SOURCE {
                self.ctx.emit(&header, event)?;
            }
            ::metrics::gauge!(metrics::ACTIVE_STREAMS).set(self.streams.len() as f64);
        }
        Ok(())
    }

    fn source_exhausted(&mut self, input: &str) -> eyre::Result<()> {
        self.open_sources.remove(input);
        if self.open_sources.is_empty() {
            self.ctx.inputs_exhausted = true;
            self.ctx.exhausted |= !N::SOURCE;
        }
        Ok(())
    }

    fn credit(&mut self, consumer: &str, credit: &Credit) -> eyre::Result<()> {
        if !self.informal.heard(consumer, credit, Instant::now()) {
            self.ctx.outbox.consumer_gone(consumer);
            return Ok(());
        }
        if *credit == farewell() {
            return Ok(());
        }
        let newcomer = self.ctx.outbox.credit(consumer, credit);
        if credit.consumed.is_some() {
            return Ok(());
        }
        let now = Instant::now();
        if newcomer {
            self.ctx.words.all_due(now);
        }
        for (header, event) in self.ctx.words.repeat(now) {
            self.ctx.outputs.events(Some(&header), &[event])?;
        }
        if self.ctx.words.exhausted {
            self.ctx.outputs.events(None, &[exhausted()])?;
        }
        Ok(())
    }

    /// Sends what credit allows, and closes what is clear. Returns whether anything was sent.
    fn pump(&mut self) -> eyre::Result<bool> {
        let mut sent = false;
        loop {
            let ctx = &mut self.ctx;
            let mut progress = false;
            loop {
                if !ctx.live {
                    ctx.outbox.limit(ctx.room_on_the_way(N::SOURCE));
                }
                let Some(sending) = ctx.outbox.next_to_send() else {
                    break;
                };
                (ctx.outputs.start, ctx.outputs.window) = (sending.start, sending.window);
                self.node
                    .send(&mut ctx.outputs, sending.header, sending.parcel)?;
                (ctx.outputs.start, ctx.outputs.window) = (false, None);
                progress = true;
            }
            for header in ctx.outbox.take_dropped() {
                ctx.meter.dropped();
                ::metrics::counter!(
                    metrics::FRAMES_DROPPED,
                    "stream_id" => header.id.stream.to_string(), "reason" => "newer_frame"
                )
                .increment(1);
            }
            for header in ctx.outbox.take_finished() {
                if !N::SOURCE {
                    for inbox in ctx.inboxes.values_mut() {
                        inbox.done(&header.id);
                    }
                }
                self.node.acknowledged(&header);
                progress = true;
            }
            if !progress {
                break;
            }
            sent = true;
        }
        let on_its_way = self.ctx.outbox.is_any_on_its_way();
        self.ctx.meter.observe(Instant::now(), on_its_way);
        self.close_clear_streams()?;
        Ok(sent)
    }

    fn close_clear_streams(&mut self) -> eyre::Result<()> {
        if !self.ctx.closing.is_empty() {
            let (clear, waiting) =
                std::mem::take(&mut self.ctx.closing)
                    .into_iter()
                    .partition(|(header, _)| {
                        let id = &header.id;
                        self.ctx.outbox.is_clear_up_to(&id.stream, id.epoch)
                            && !self.ctx.held.contains(&id.stream)
                    });
            self.ctx.closing = waiting;
            let clear: Vec<(Header, StreamEvent)> = clear;
            for (header, event) in clear {
                self.ctx.say(&header, &event)?;
                self.ctx.outbox.forget(&header.id.stream);
            }
        }
        let ended = self.ctx.exhausted
            && self.ctx.closing.is_empty()
            && self.ctx.outbox.is_empty()
            && self.streams.is_empty();
        if ended && !self.ctx.words.exhausted {
            self.ctx.words.exhausted = true;
            self.ctx.outputs.events(None, &[exhausted()])?;
        }
        Ok(())
    }

    /// Sends the acknowledgements that are due, or all.
    fn acknowledge(&mut self, all: bool) -> eyre::Result<()> {
        let inboxes = &mut self.ctx.inboxes;
        for (input, credit) in self.acknowledger.take(inboxes, all, Instant::now()) {
            self.ctx.outputs.credit(&input, &credit)?;
        }
        Ok(())
    }

    fn hello_all(&mut self) -> eyre::Result<()> {
        let inputs: Vec<String> = self.ctx.inboxes.keys().cloned().collect();
        inputs.iter().try_for_each(|input| self.hello(input))
    }

    fn hello(&mut self, input: &str) -> eyre::Result<()> {
        self.last_arrival.insert(input.into(), Instant::now());
        if let Some(inbox) = self.ctx.inboxes.get_mut(input) {
            for credit in self.acknowledger.take_everything(inbox) {
                self.ctx.outputs.credit(input, &credit)?;
            }
        }
        let hello = Credit {
            window: self.window,
            consumed: None,
            shard: self.shard,
        };
        self.ctx.outputs.credit(input, &hello)
    }

    fn tick(&mut self) -> eyre::Result<()> {
        self.last_tick = Instant::now();
        let silent: Vec<String> = self
            .ctx
            .inboxes
            .iter()
            .filter(|(input, inbox)| {
                let heard = self.last_arrival.get(*input);
                inbox.open() == 0 && heard.is_none_or(|at| at.elapsed() >= IDLE)
            })
            .map(|(input, _)| input.clone())
            .collect();
        silent.iter().try_for_each(|input| self.hello(input))?;
        let now = Instant::now();
        for consumer in self
            .informal
            .gone(now, self.ctx.exhausted, self.ctx.words.exhausted)
        {
            self.ctx.outbox.consumer_gone(&consumer);
        }
        metrics::system(N::NAME);
        for (stream, age, stale) in self.streams.ages(now) {
            ::metrics::gauge!(metrics::STREAM_DURATION, "stream_id" => stream.to_string())
                .set(age.as_secs_f64());
            let state = [metrics::State::Open, metrics::State::Stale][usize::from(stale)];
            metrics::stream_state(stream, state);
            ::metrics::gauge!(metrics::ACTIVE_STREAMS).set(self.streams.len() as f64);
        }
        let changes = self.streams.due(now, seen(&self.ctx));
        self.apply(changes)?;
        for inbox in self.ctx.inboxes.values_mut() {
            inbox.forget_ended(|stream, epoch| self.streams.is_over(stream, epoch));
        }
        Ok(())
    }
}

/// Everything has been said and heard: the sources are exhausted, downstream has taken all, and (so
/// that a consumer that restarts now still learns of the end) all consumers are gone. A node whose
/// `stream_events` go nowhere owes its consumers no word, so it does not wait for them: in a cycle,
/// as between prompt-generator and tracker, it is the one to go first.
fn is_over(exhausted: bool, passes_ends_on: bool, has_consumers: bool) -> bool {
    exhausted && !(passes_ends_on && has_consumers)
}

/// The last frame that any input has seen of a stream.
fn seen<P>(
    ctx: &Context<P>,
) -> impl Fn(&StreamId) -> Option<(tracklens_schemas::Epoch, FrameIndex)> {
    move |stream| {
        ctx.inboxes
            .values()
            .filter_map(|inbox| inbox.seen(stream))
            .max()
    }
}

enum Waited {
    Event(Box<Event>),
    Closed,
    Nothing,
}

#[cfg(test)]
mod tests {
    use super::is_over;

    #[test]
    fn a_node_waits_for_the_consumers_that_it_owes_the_end() {
        assert!(!is_over(false, false, false));
        assert!(!is_over(true, true, true));
        assert!(is_over(true, true, false));
        assert!(is_over(true, false, true));
    }
}
