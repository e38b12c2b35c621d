//! An RTSP server that plays a test picture: GStreamer's, driven by a few lines of Python.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const SCRIPT: &str = "
import sys, gi
gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', '1.0')
from gi.repository import Gst, GstRtspServer, GLib
Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address('127.0.0.1'); server.set_service(sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory()
factory.set_shared(True)
factory.set_launch('( filesrc location=' + sys.argv[2] + ' ! qtdemux ! h264parse config-interval=1 ! rtph264pay name=pay0 pt=96 )')
server.get_mount_points().add_factory('/cam', factory)
server.attach(None)
GLib.MainLoop().run()
";

/// A running server; dropping it kills it.
#[derive(Debug)]
pub struct RtspServer {
    port: u16,
    child: Child,
}

impl RtspServer {
    /// Serves an MP4 file of H.264 at `rtsp://127.0.0.1:PORT/cam`; panics where GStreamer's RTSP server
    /// is not installed.
    #[must_use]
    pub fn start(port: u16, file: &str) -> Self {
        // The distribution's Python: another may lack its packages.
        let child = Command::new("/usr/bin/python3")
            .args(["-c", SCRIPT, &port.to_string(), file])
            .stdin(Stdio::null())
            .spawn();
        let mut child = child.expect("the distribution's Python");
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = child.try_wait().expect("the child can be waited for");
            assert!(
                ended.is_none(),
                "GStreamer's RTSP server is not installed (scripts/setup.sh --tests)"
            );
            assert!(start.elapsed() < Duration::from_secs(30), "no RTSP server");
            std::thread::sleep(Duration::from_millis(50));
        }
        Self { port, child }
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("rtsp://127.0.0.1:{}/cam", self.port)
    }
}

impl Drop for RtspServer {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
