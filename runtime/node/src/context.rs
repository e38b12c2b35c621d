//! What the event loop offers to a node while one of its methods runs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use dora_node_api::dora_core::config::DataId;
use dora_node_api::futures::channel::mpsc;
use dora_node_api::{DoraArray, DoraNode, MetadataParameters, Parameter};
use tracklens_schemas::arrow::array::ArrayRef;
use tracklens_schemas::{
    Credit, Epoch, FrameId, Header, ImageInfo, Metadata, StreamEvent, StreamEventKind, StreamId,
    Value, keys, stream_events,
};

use crate::inbox::Inbox;
use crate::last_words::LastWords;
use crate::load::{Load, LoadMeter};
use crate::outbox::Outbox;
use crate::{metrics, wire};

/// Bits of an epoch that count openings between two restarts of a node.
const EPOCH_BITS: u32 = 20;

/// Bytes of frames on their way at most: the least shared memory of a producer of frames, less room for
/// two of them (docs/nodes.md).
const FRAMES_ON_THEIR_WAY: usize = 100 << 20;

/// The node's outputs. Outputs that the graph does not declare are not sent.
pub struct Outputs {
    pub(crate) node: DoraNode,
    /// `None` in dora's test mode, which declares nothing and takes everything.
    pub(crate) declared: Option<BTreeSet<String>>,
    /// Whether what is being sent is the oldest unacknowledged message of its stream.
    pub(crate) start: bool,
    /// How many are on their way at most, where it has to be told.
    pub(crate) window: Option<usize>,
    /// Bytes of the largest frame sent.
    pub(crate) largest_frame: usize,
}

impl Outputs {
    /// Whether the graph declares this output: skip work nobody wants.
    #[must_use]
    pub fn wanted(&self, output: &str) -> bool {
        self.declared
            .as_ref()
            .is_none_or(|declared| declared.contains(output))
    }

    /// Sends a frame, whose pixels `fill` writes straight into the outgoing sample
    /// (`info.byte_len()` bytes).
    ///
    /// # Errors
    /// Where dora refuses the message.
    pub fn frame(
        &mut self,
        output: &str,
        header: &Header,
        info: &ImageInfo,
        fill: impl FnOnce(&mut [u8]),
    ) -> eyre::Result<()> {
        if !self.wanted(output) {
            return Ok(());
        }
        self.largest_frame = self.largest_frame.max(info.byte_len());
        let mut metadata = Metadata::default();
        header.write(&mut metadata);
        info.write(&mut metadata);
        self.mark(&mut metadata);
        let parameters = wire::to_dora(&metadata);
        self.node.send_output_raw(
            DataId::from(output.to_string()),
            parameters,
            info.byte_len(),
            fill,
        )?;
        Ok(())
    }

    /// Sends bytes with this metadata; the header is added to it.
    ///
    /// # Errors
    /// Where dora refuses the message.
    pub fn bytes(
        &mut self,
        output: &str,
        header: &Header,
        mut metadata: Metadata,
        bytes: &[u8],
    ) -> eyre::Result<()> {
        if !self.wanted(output) {
            return Ok(());
        }
        header.write(&mut metadata);
        self.mark(&mut metadata);
        let parameters = wire::to_dora(&metadata);
        self.node.send_output_raw(
            DataId::from(output.to_string()),
            parameters,
            bytes.len(),
            |out| out.copy_from_slice(bytes),
        )?;
        Ok(())
    }

    /// Sends rows with this metadata; the header is added to it.
    ///
    /// # Errors
    /// Where dora refuses the message.
    pub fn rows(
        &mut self,
        output: &str,
        header: &Header,
        mut metadata: Metadata,
        rows: ArrayRef,
    ) -> eyre::Result<()> {
        header.write(&mut metadata);
        self.mark(&mut metadata);
        self.array(output, wire::to_dora(&metadata), rows)
    }

    /// Sends a message with the metadata it has, as when it was first sent.
    ///
    /// # Errors
    /// Where dora refuses the message.
    pub fn repeat(
        &mut self,
        output: &str,
        mut parameters: MetadataParameters,
        array: ArrayRef,
    ) -> eyre::Result<()> {
        for key in [keys::START, keys::WINDOW] {
            parameters.remove(key);
        }
        if self.start {
            parameters.insert(keys::START.into(), Parameter::Bool(true));
        }
        if let Some(window) = self.window {
            parameters.insert(keys::WINDOW.into(), Parameter::Integer(window as i64));
        }
        self.array(output, parameters, array)
    }

    fn mark(&self, metadata: &mut Metadata) {
        if self.start {
            metadata.insert(keys::START, Value::Bool(true));
        }
        if let Some(window) = self.window {
            metadata.insert(keys::WINDOW, Value::Int(window as i64));
        }
    }

    pub(crate) fn array(
        &mut self,
        output: &str,
        parameters: MetadataParameters,
        array: ArrayRef,
    ) -> eyre::Result<()> {
        if self.wanted(output) {
            self.node.send_output(
                DataId::from(output.to_string()),
                parameters,
                DoraArray::from(array),
            )?;
        }
        Ok(())
    }

    pub(crate) fn credit(&mut self, input: &str, credit: &Credit) -> eyre::Result<()> {
        let (array, metadata) = credit.encode();
        self.array(&credit_output(input), wire::to_dora(&metadata), array)
    }

    pub(crate) fn events(
        &mut self,
        header: Option<&Header>,
        events: &[StreamEvent],
    ) -> eyre::Result<()> {
        let mut metadata = Metadata::default();
        if let Some(header) = header {
            header.write(&mut metadata);
        }
        let rows = stream_events::encode(events);
        self.array("stream_events", wire::to_dora(&metadata), rows)
    }
}

/// Gives credit for an input of a node that has no event loop of ours.
///
/// # Errors
/// Where dora refuses the message.
pub fn send_credit(node: &mut DoraNode, input: &str, credit: &Credit) -> eyre::Result<()> {
    let (array, metadata) = credit.encode();
    let output = DataId::from(credit_output(input));
    node.send_output(output, wire::to_dora(&metadata), DoraArray::from(array))?;
    Ok(())
}

/// The output on which an input is acknowledged.
pub(crate) fn credit_output(input: &str) -> String {
    format!("credit_{input}")
}

/// Wakes the event loop from another thread.
#[derive(Clone, Debug)]
pub struct Waker(pub(crate) mpsc::Sender<()>);

impl Waker {
    /// Makes the event loop call [`crate::Node::work`] soon.
    pub fn wake(&self) {
        // A full channel means that a wake-up is already on its way.
        let _already_woken = self.0.clone().try_send(());
    }
}

pub(crate) fn exhausted() -> StreamEvent {
    StreamEvent {
        event: StreamEventKind::Exhausted,
        detail: String::new(),
    }
}

/// The event loop's side of a node.
pub struct Context<P> {
    pub(crate) outputs: Outputs,
    pub(crate) outbox: Outbox<P>,
    pub(crate) inboxes: BTreeMap<String, Inbox>,
    pub(crate) words: LastWords,
    pub(crate) meter: LoadMeter,
    /// `closed` events that wait until their stream's frames are acknowledged.
    pub(crate) closing: Vec<(Header, StreamEvent)>,
    /// Streams whose `closed` waits for the node, too.
    pub(crate) held: BTreeSet<StreamId>,
    /// The node (a source) or all its sources have said that no stream will come any more.
    pub(crate) exhausted: bool,
    /// All sources upstream have said that no stream will come any more.
    pub(crate) inputs_exhausted: bool,
    pub(crate) waker: Waker,
    pub(crate) live: bool,
    pub(crate) stopping: bool,
}

impl<P> Context<P> {
    /// Queues a parcel for the gated output. It is sent, in order within its stream, when the
    /// consumers have granted credit, and again when one of them restarts.
    pub fn queue(&mut self, header: Header, parcel: P) {
        self.meter.offered();
        self.outbox.queue(header, parcel);
    }

    /// Whether more of this stream should be produced now: less than a window is unacknowledged, or
    /// newer messages take the place of older ones anyway.
    #[must_use]
    pub fn room(&self, stream: &StreamId) -> bool {
        !self.outbox.waits() || self.outbox.room(stream)
    }

    /// Whether the consumers have acknowledged everything of this stream up to this epoch.
    #[must_use]
    pub fn is_clear(&self, stream: &StreamId, epoch: Epoch) -> bool {
        self.outbox.is_clear_up_to(stream, epoch)
    }

    /// Whether a message of this stream waits for credit. A source that can wait, too, produces
    /// nothing then, so that nothing is dropped here in live mode.
    #[must_use]
    pub fn is_waiting(&self, stream: &StreamId) -> bool {
        self.outbox.is_waiting(stream)
    }

    /// Messages for which there is room on their way in a lossless graph: frames share memory, and a
    /// consumer acknowledges in groups of half of what its sender may have on its way, so that no node
    /// may wait for more than those before it send. A source's inputs count something else.
    pub(crate) fn room_on_the_way(&self, source: bool) -> usize {
        let frames = FRAMES_ON_THEIR_WAY / self.outputs.largest_frame.max(1);
        let inputs = self.inboxes.values().filter(|_| !source);
        inputs.filter_map(Inbox::window).fold(frames, usize::min)
    }

    /// How the consumers of the gated output have kept up so far.
    #[must_use]
    pub fn load(&self) -> Load {
        self.meter.at(Instant::now())
    }

    /// This frame on this input is finished with: written, or dropped on purpose. Needed from sinks
    /// for every frame, and from other nodes for frames for which nothing is queued.
    pub fn done(&mut self, input: &str, header: &Header) {
        self.finished(input, &header.id);
    }

    pub(crate) fn finished(&mut self, input: &str, id: &FrameId) {
        if let Some(inbox) = self.inboxes.get_mut(input) {
            inbox.done(id);
        }
    }

    /// Says something about a stream downstream. Sources only: what comes from upstream is passed
    /// on by itself. `closed` (with the number of frames as the header's frame) is sent once the
    /// stream's frames are acknowledged.
    ///
    /// # Errors
    /// Where dora refuses the message.
    pub fn emit(&mut self, header: &Header, event: StreamEvent) -> eyre::Result<()> {
        match event.event {
            StreamEventKind::Closed => {
                self.closing.push((header.clone(), event));
                self.hurry(header)
            }
            StreamEventKind::Exhausted => {
                self.exhausted = true;
                Ok(())
            }
            _ => self.say(header, &event),
        }
    }

    /// Lets consumers know that no frame of this stream comes any more whose acknowledgement could go
    /// with that of others.
    fn hurry(&mut self, header: &Header) -> eyre::Result<()> {
        let id = &header.id;
        if self.live || self.outbox.is_clear_up_to(&id.stream, id.epoch) {
            return Ok(());
        }
        let closing = StreamEvent {
            event: StreamEventKind::Closing,
            detail: String::new(),
        };
        self.outputs.events(Some(header), &[closing])
    }

    /// Says a word on a stream; with its end, once more what went wrong: later nobody listens.
    pub(crate) fn say(&mut self, header: &Header, event: &StreamEvent) -> eyre::Result<()> {
        let mut events = match event.event {
            StreamEventKind::Closed => self.words.errors(&header.id),
            _ => Vec::new(),
        };
        events.push(event.clone());
        self.words.keep(header, event, Instant::now());
        self.outputs.events(Some(header), &events)
    }

    /// Keeps the end of this stream back until [`Self::release`]: something of it is still to be sent
    /// on an output without acknowledgements. To be called when the node is told of the end.
    pub fn hold(&mut self, stream: &StreamId) {
        self.held.insert(stream.clone());
    }

    /// All of this stream has been sent: its end may be passed on.
    pub fn release(&mut self, stream: &StreamId) {
        self.held.remove(stream);
    }

    /// No stream will come any more (sources): the graph may end.
    pub fn exhaust(&mut self) {
        self.exhausted = true;
    }

    /// The outputs, for messages that need no acknowledgement.
    pub fn outputs(&mut self) -> &mut Outputs {
        &mut self.outputs
    }

    /// A handle with which worker threads wake the event loop.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Whether all nodes upstream have said that no stream will come any more.
    #[must_use]
    pub fn inputs_exhausted(&self) -> bool {
        self.inputs_exhausted
    }

    /// The first epoch of streams that this process opens anew many times: beyond every epoch that
    /// it gave before it was restarted.
    #[must_use]
    pub fn first_epoch(&self) -> Epoch {
        Epoch(self.restart_count().min(u32::MAX >> EPOCH_BITS) << EPOCH_BITS)
    }

    /// How often dora has restarted this node in this run: 0 the first time.
    #[must_use]
    pub fn restart_count(&self) -> u32 {
        self.outputs.node.restart_count()
    }

    /// The run that this node is part of: the same after a restart of the node, another in every
    /// other run.
    #[must_use]
    pub fn run_id(&self) -> String {
        self.outputs.node.dataflow_id().to_string()
    }

    /// The id of this node in its graph.
    #[must_use]
    pub fn node_id(&self) -> String {
        self.outputs.node.id().to_string()
    }

    /// Whether the graph is live (the newest frame wins) rather than lossless.
    #[must_use]
    pub fn live(&self) -> bool {
        self.live
    }

    /// Whether the dataflow is being stopped: finish what is at hand, begin nothing.
    #[must_use]
    pub fn stopping(&self) -> bool {
        self.stopping
    }

    /// Whether all streams have come to their ends and no other will come.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.words.exhausted
    }

    /// Whether the graph connects this input.
    #[must_use]
    pub fn has_input(&self, input: &str) -> bool {
        self.outputs
            .node
            .node_config()
            .inputs
            .keys()
            .any(|id| id.as_ref() as &str == input)
    }

    /// Runs `work` and records its time under this operation.
    pub fn timed<T>(&mut self, operation: &'static str, work: impl FnOnce(&mut Self) -> T) -> T {
        let watch = metrics::Stopwatch::start();
        let result = work(self);
        watch.record(operation);
        result
    }
}
