//! What a node has to say to be run by the event loop.

use serde::de::DeserializeOwned;
use tracklens_schemas::Header;

use crate::{BadMessage, Context, Message, Outputs, Policy, StreamChange};

/// Whether a node has more to do when no event waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Nothing to do: wait for an event or for [`crate::Waker::wake`].
    Wait,
    /// Something was done and more may be at hand: look for events, then call again. In a lossless
    /// graph what was queued may be sent together with what the next calls queue, a quarter of a
    /// second later at most; a call that finds nothing to do sends it.
    Again,
}

/// A node: one job, joined to the dataflow by [`crate::run`].
///
/// A node has at most one *gated* output, whose messages are kept until all consumers have
/// acknowledged them; a [`Parcel`](Self::Parcel) is what is kept. Everything upstream is
/// acknowledged when the gated output of the same frame has been, so an acknowledgement travels
/// from the last consumer to the source, and a killed node loses nothing. Nodes with
/// [`SINK`](Self::SINK) set have no gated output and acknowledge with [`Context::done`].
pub trait Node: Sized {
    /// The node's name: its metrics port, its section in docs/nodes.md.
    const NAME: &'static str;
    /// One line for `--help`.
    const ABOUT: &'static str;
    /// Whether the node is the end of the line.
    const SINK: bool = false;
    /// Whether the node makes the frames that it sends: from files, from the network, or, like the
    /// decoder, from pieces of other numbers. Such a node speaks for its streams itself
    /// ([`Context::emit`], [`Context::exhaust`]), acknowledges what comes in with
    /// [`Context::done`], and takes every message of its data inputs in order, in live graphs too.
    const SOURCE: bool = false;
    /// What live mode does to messages that consumers are too slow for.
    const LIVE_POLICY: Policy = Policy::Reliable;
    /// The settings the node reads, from the table in [`crate::settings`].
    const SETTINGS: &'static [&'static str];
    /// The same settings, typed; fields named like the settings.
    type Settings: DeserializeOwned;
    /// What is kept of an unacknowledged message.
    type Parcel;

    /// Makes the node. What cannot work (a missing model, a folder that cannot be written) is said
    /// here, before the first frame.
    ///
    /// # Errors
    /// Whatever keeps the node from starting: the process ends with it.
    fn new(settings: Self::Settings, ctx: &mut Context<Self::Parcel>) -> eyre::Result<Self>;

    /// One message on a data input: every input but `credit_*`, `stream_events*` and timers.
    ///
    /// # Errors
    /// [`BadMessage`] is counted and logged, the frame acknowledged, and the node goes on.
    fn input(
        &mut self,
        ctx: &mut Context<Self::Parcel>,
        input: &str,
        message: Message,
    ) -> Result<(), BadMessage>;

    /// A change in a stream's life. `opened` may come twice, the second time with its detail, and
    /// with a greater epoch without a `closed` between; `closed` comes after the last frame.
    ///
    /// # Errors
    /// Ends the process.
    fn stream(
        &mut self,
        ctx: &mut Context<Self::Parcel>,
        change: &StreamChange,
    ) -> eyre::Result<()>;

    /// Nothing will come on this input any more: its sender has ended, or dora has given it up.
    ///
    /// # Errors
    /// Ends the process.
    fn input_closed(&mut self, _ctx: &mut Context<Self::Parcel>, _input: &str) -> eyre::Result<()> {
        Ok(())
    }

    /// Called when no event waits, and when woken: sources and batchers do their work here, in
    /// pieces.
    ///
    /// # Errors
    /// Ends the process.
    fn work(&mut self, ctx: &mut Context<Self::Parcel>) -> eyre::Result<Work>;

    /// Sends a parcel, for the first time or again.
    ///
    /// # Errors
    /// Ends the process.
    fn send(
        &mut self,
        outputs: &mut Outputs,
        header: &Header,
        parcel: &Self::Parcel,
    ) -> eyre::Result<()>;

    /// The parcel of this frame is needed no longer.
    fn acknowledged(&mut self, _header: &Header) {}

    /// Called once, before the process ends: at the end of all streams, and after `dora stop`.
    ///
    /// # Errors
    /// The process ends with it.
    fn finish(&mut self, ctx: &mut Context<Self::Parcel>) -> eyre::Result<()>;
}
