//! Endpoints of the zenoh link, and which of them are refused.
//!
//! Nothing is encrypted yet, so only links that stay on the machine are opened: TCP over loopback
//! and unix sockets. Each endpoint becomes two links, one for urgent small messages and one for
//! everything of some size: TCP uses the given port **and the next one**, a unix socket the given
//! path and the same with `.bulk` after it.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::error::BusError;

/// Where a zenoh session listens and whom it calls.
///
/// Two empty lists make a session without endpoints: a bus inside one process. Peers do not
/// forward: of two processes that speak to each other, one must call the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ZenohConfig {
    /// Endpoints to listen on, such as `tcp/127.0.0.1:7447` or `unixsock-stream//run/vlad/bus`.
    pub listen: Vec<String>,
    /// Endpoints to call, in the same form; calls are repeated until somebody answers.
    pub connect: Vec<String>,
    /// Mebibytes of memory that are shared with the processes of this host, for large bodies that
    /// are filled in place; 0 shares none, and takes none from others. The same on both sides: who
    /// cannot lock as much into memory shares none.
    pub shared_memory_mib: u16,
}

/// The links of one endpoint: what zenoh is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LinkPair {
    pub(crate) control: String,
    pub(crate) bulk: String,
}

/// Longest path of a unix socket, with `.bulk.lock` and the closing zero, on Linux.
const PATH_MAX: usize = 108 - ".bulk.lock".len() - 1;

impl ZenohConfig {
    /// Checks every endpoint.
    ///
    /// # Errors
    /// [`BusError::Endpoint`] with the first endpoint that is malformed or leaves the machine.
    pub fn check(&self) -> Result<(), BusError> {
        self.listen
            .iter()
            .chain(&self.connect)
            .try_for_each(|text| link_pair(text).map(drop))
    }
}

/// Gives the two links of an endpoint.
pub(crate) fn link_pair(endpoint: &str) -> Result<LinkPair, BusError> {
    let refused = |why| BusError::Endpoint {
        endpoint: endpoint.to_owned(),
        why,
    };
    if endpoint.contains(['?', '#']) || endpoint.contains(char::is_whitespace) {
        return Err(refused("options (? and #) and spaces are not allowed"));
    }
    match endpoint.split_once('/') {
        Some(("tcp", address)) => tcp_pair(address).map_err(refused),
        Some(("unixsock-stream", path)) => unix_pair(path).map_err(refused),
        _ => Err(refused(
            "use tcp/127.0.0.1:PORT or unixsock-stream//PATH; other links are not encrypted yet",
        )),
    }
}

fn tcp_pair(address: &str) -> Result<LinkPair, &'static str> {
    let (host, port) = address.rsplit_once(':').ok_or("the port is missing")?;
    if !is_loopback(host) {
        return Err("only loopback (127.0.0.0/8, [::1], localhost) is allowed without encryption");
    }
    let port: u16 = port
        .parse()
        .map_err(|_| "the port is not a number up to 65534")?;
    let next = port
        .checked_add(1)
        .ok_or("the port and the one after it are used: at most 65534")?;
    if port == 0 {
        return Err("port 0 cannot be called by anybody; choose one");
    }
    Ok(LinkPair {
        control: format!("tcp/{host}:{port}"),
        bulk: format!("tcp/{host}:{next}"),
    })
}

fn is_loopback(host: &str) -> bool {
    let v6 = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    match v6 {
        Some(inner) => inner.parse().is_ok_and(|ip: Ipv6Addr| ip.is_loopback()),
        None => host == "localhost" || host.parse().is_ok_and(|ip: Ipv4Addr| ip.is_loopback()),
    }
}

fn unix_pair(path: &str) -> Result<LinkPair, &'static str> {
    if !path.starts_with('/') {
        return Err("the path of a unix socket must be absolute: unixsock-stream//PATH");
    }
    if PATH_MAX < path.len() {
        return Err("the path of a unix socket must have at most 97 bytes");
    }
    let control = format!("unixsock-stream/{path}");
    Ok(LinkPair {
        bulk: format!("{control}.bulk"),
        control,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_on_this_machine_become_two_links() {
        for (given, control, bulk) in [
            (
                "tcp/127.0.0.1:7447",
                "tcp/127.0.0.1:7447",
                "tcp/127.0.0.1:7448",
            ),
            ("tcp/127.8.9.1:1", "tcp/127.8.9.1:1", "tcp/127.8.9.1:2"),
            ("tcp/[::1]:65534", "tcp/[::1]:65534", "tcp/[::1]:65535"),
            ("tcp/localhost:80", "tcp/localhost:80", "tcp/localhost:81"),
            (
                "unixsock-stream//run/b",
                "unixsock-stream//run/b",
                "unixsock-stream//run/b.bulk",
            ),
        ] {
            let wanted = LinkPair {
                control: control.to_owned(),
                bulk: bulk.to_owned(),
            };
            assert_eq!(link_pair(given).unwrap(), wanted);
        }
    }

    #[test]
    fn endpoints_that_leave_the_machine_or_make_no_sense_are_refused_by_name() {
        let long = format!("unixsock-stream//{}", "a".repeat(PATH_MAX));
        for bad in [
            "",
            "tcp",
            "tcp/",
            "tcp/127.0.0.1",
            "tcp/127.0.0.1:",
            "tcp/127.0.0.1:0",
            "tcp/127.0.0.1:65535",
            "tcp/127.0.0.1:65536",
            "tcp/0.0.0.0:7447",
            "tcp/[::]:7447",
            "tcp/[::ffff:127.0.0.1]:7447",
            "tcp/192.168.0.1:7447",
            "tcp/128.0.0.1:7447",
            "tcp/example.org:7447",
            "tcp/127.0.0.1.example.org:7447",
            "tcp/127.0.0.1:7447?prio=1-3",
            "tcp/127.0.0.1:7447#iface=eth0",
            "tcp/127.0.0.1:7447 ",
            "udp/127.0.0.1:7447",
            "tls/localhost:7447",
            "quic/localhost:7447",
            "unixsock-stream/run/b",
            "unixsock-stream/",
            long.as_str(),
        ] {
            let config = ZenohConfig {
                connect: vec![bad.to_owned()],
                ..ZenohConfig::default()
            };
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(bad), "{error}");
        }
        assert!(ZenohConfig::default().check().is_ok());
    }
}
