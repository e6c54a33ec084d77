//! Decides whether a request may come in: only under a loopback name, never from a foreign web page.
//!
//! A page of another origin can make a browser send requests here, and a foreign name can be made to
//! point here (DNS rebinding). Both are refused by what the browser itself writes into the headers:
//! `Host`, `Origin` and `Sec-Fetch-Site`. There are no CORS headers to allow anything back.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::http::{HeaderMap, Uri, header};

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No `Host`, or several.
    #[error("the request needs exactly one host header")]
    NoHost,
    /// A name that is not this machine's own.
    #[error("the host is no loopback name: use 127.0.0.1, [::1] or localhost")]
    ForeignHost,
    /// A web page of another origin.
    #[error("web pages of another origin may not use this daemon: open its own page")]
    ForeignOrigin,
}

/// Judges a request by its headers.
///
/// # Errors
/// [`Refusal`] with the first check that failed.
pub fn check(headers: &HeaderMap, uri: &Uri) -> Result<(), Refusal> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts
        .next()
        .and_then(|value| value.to_str().ok())
        .ok_or(Refusal::NoHost)?;
    if hosts.next().is_some() {
        return Err(Refusal::NoHost);
    }
    let target = uri
        .authority()
        .map_or(host, axum::http::uri::Authority::as_str);
    if !is_loopback(host) || !is_loopback(target) {
        return Err(Refusal::ForeignHost);
    }
    for origin in headers.get_all(header::ORIGIN) {
        if !origin
            .to_str()
            .is_ok_and(|origin| same_origin(origin, host))
        {
            return Err(Refusal::ForeignOrigin);
        }
    }
    for site in headers.get_all("sec-fetch-site") {
        // `none` is a person who typed the address.
        if !matches!(site.as_bytes(), b"same-origin" | b"none") {
            return Err(Refusal::ForeignOrigin);
        }
    }
    Ok(())
}

fn same_origin(origin: &str, host: &str) -> bool {
    let Some(authority) = origin.strip_prefix("http://") else {
        return false;
    };
    let plain = |text: &str| {
        text.strip_suffix(":80")
            .unwrap_or(text)
            .to_ascii_lowercase()
    };
    plain(authority) == plain(host)
}

fn is_loopback(authority: &str) -> bool {
    let (name, port) = split_port(authority);
    if !port.is_empty() && port.parse::<u16>().is_err() {
        return false;
    }
    if let Some(v6) = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        return v6
            .parse::<Ipv6Addr>()
            .is_ok_and(|address| address.is_loopback());
    }
    let v4 = name.parse::<Ipv4Addr>();
    v4.is_ok_and(|address| address.is_loopback()) || name.eq_ignore_ascii_case("localhost")
}

fn split_port(authority: &str) -> (&str, &str) {
    match authority.rsplit_once(':') {
        // The last colon of a bare `[::1]` belongs to the address.
        Some((name, port)) if !port.ends_with(']') => (name, port),
        _ => (authority, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(pairs: &[(&'static str, &str)]) -> Result<(), Refusal> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        check(&headers, &Uri::from_static("/"))
    }

    #[test]
    fn loopback_names_may_come_in() {
        for host in [
            "127.0.0.1:8640",
            "127.9.9.9",
            "localhost:1",
            "LOCALHOST",
            "[::1]:8640",
            "[::1]",
        ] {
            assert_eq!(judge(&[("host", host)]), Ok(()), "{host}");
        }
    }

    #[test]
    fn foreign_names_may_not() {
        for host in [
            "example.com",
            "127.0.0.1.example.com",
            "localhost.example.com",
            "0.0.0.0:8640",
            "192.168.1.4:8640",
            "[::2]",
            "127.0.0.1:99999",
            "127.0.0.1@example.com",
            "",
        ] {
            assert_eq!(
                judge(&[("host", host)]),
                Err(Refusal::ForeignHost),
                "{host}"
            );
        }
        assert_eq!(judge(&[]), Err(Refusal::NoHost));
        let two = [("host", "localhost"), ("host", "localhost")];
        assert_eq!(judge(&two), Err(Refusal::NoHost));
        let mut headers = HeaderMap::new();
        headers.insert("host", "localhost".parse().unwrap());
        let uri = Uri::from_static("http://example.com/");
        assert_eq!(check(&headers, &uri), Err(Refusal::ForeignHost));
    }

    #[test]
    fn only_the_own_origin_may_send() {
        let host = ("host", "127.0.0.1:8640");
        assert_eq!(judge(&[host, ("origin", "http://127.0.0.1:8640")]), Ok(()));
        assert_eq!(
            judge(&[("host", "localhost"), ("origin", "http://localhost:80")]),
            Ok(())
        );
        for origin in [
            "http://example.com",
            "https://127.0.0.1:8640",
            "http://127.0.0.1:8641",
            "http://127.0.0.1",
            "http://localhost:8640",
            "null",
            "",
        ] {
            let judged = judge(&[host, ("origin", origin)]);
            assert_eq!(judged, Err(Refusal::ForeignOrigin), "{origin}");
        }
    }

    #[test]
    fn a_foreign_page_is_known_by_its_fetch_site() {
        let host = ("host", "127.0.0.1:8640");
        for (site, fine) in [
            ("same-origin", true),
            ("none", true),
            ("cross-site", false),
            ("same-site", false),
        ] {
            assert_eq!(
                judge(&[host, ("sec-fetch-site", site)]).is_ok(),
                fine,
                "{site}"
            );
        }
    }
}
