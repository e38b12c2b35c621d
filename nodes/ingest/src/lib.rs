//! Takes in encoded video over WebSocket and AMQP.
