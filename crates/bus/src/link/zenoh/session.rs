//! How a zenoh session is configured and opened.

use tokio::runtime::{Handle, RuntimeFlavor};
use zenoh::{Config, Session};

use crate::config::{LinkPair, ZenohConfig, link_pair};
use crate::error::{BusError, LinkError};

/// A session's settings but its endpoints, as paths and JSON5 values.
const SETTINGS: &[(&str, &str)] = &[
    ("mode", "\"peer\""),
    // Discovery is off: who speaks to whom is written down. Without it there is nothing to wait
    // for at start.
    ("scouting/multicast/enabled", "false"),
    ("scouting/gossip/enabled", "false"),
    ("open/return_conditions/connect_scouted", "false"),
    ("timestamping/enabled", "false"),
    // A port that is taken is an error at once; a peer that is not there yet is called again.
    ("listen/exit_on_failure", "true"),
    ("listen/timeout_ms", "0"),
    ("connect/exit_on_failure", "false"),
    ("connect/timeout_ms", "-1"),
    (
        "connect/retry",
        "{ period_init_ms: 100, period_max_ms: 500, period_increase_factor: 2 }",
    ),
    // One link for control, one for bulk.
    ("transport/unicast/max_links", "2"),
    // A hung peer's tokens vanish after this; the default is ten times as long.
    ("transport/link/tx/lease", "1000"),
    // A context is 16 or more messages at once. With the default of two batches, what comes while the
    // sending thread waits a millisecond for a core is dropped: 2 to 8 of 100 on a busy machine.
    ("transport/link/tx/queue/size/data", "16"),
    // Above the largest observation (eight images of 1920 × 1080), far below the default 1 GiB.
    ("transport/link/rx/max_message_size", "67108864"),
];

/// Priorities of the control link and of the bulk link.
const CONTROL_PRIORITIES: &str = "?prio=1-3";
const BULK_PRIORITIES: &str = "?prio=4-7";

/// Opens a session; with `shared` memory is shared with peers of this host. A peer that is not there is no error: it is called until it is.
pub(super) async fn open(config: &ZenohConfig, shared: bool) -> Result<Session, BusError> {
    let one_thread = |handle: Handle| handle.runtime_flavor() == RuntimeFlavor::CurrentThread;
    if Handle::try_current().map_or(true, one_thread) {
        return Err(BusError::Runtime);
    }
    let open_error = |source: LinkError| BusError::Open {
        listen: config.listen.join(", "),
        connect: config.connect.join(", "),
        source,
    };
    let listen = endpoints(&config.listen)?;
    let connect = endpoints(&config.connect)?;
    let settings = settings(&listen, &connect, shared).map_err(open_error)?;
    zenoh::open(settings).await.map_err(open_error)
}

fn settings(listen: &str, connect: &str, shared: bool) -> Result<Config, LinkError> {
    let mut settings = Config::default();
    for (path, value) in SETTINGS {
        settings.insert_json5(path, value)?;
    }
    // Both are on by default.
    let shared = if shared { "true" } else { "false" };
    settings.insert_json5("transport/shared_memory/enabled", shared)?;
    settings.insert_json5(
        "transport/shared_memory/transport_optimization/enabled",
        "false",
    )?;
    settings.insert_json5("listen/endpoints", listen)?;
    settings.insert_json5("connect/endpoints", connect)?;
    Ok(settings)
}

/// Gives both links of each endpoint, as a JSON5 list.
fn endpoints(given: &[String]) -> Result<String, BusError> {
    let mut list = Vec::with_capacity(2 * given.len());
    for endpoint in given {
        let LinkPair { control, bulk } = link_pair(endpoint)?;
        list.push(format!("{control}{CONTROL_PRIORITIES}"));
        list.push(format!("{bulk}{BULK_PRIORITIES}"));
    }
    // Debug quotes and escapes as JSON does, for the printable characters that paths may hold.
    Ok(format!("{list:?}"))
}
