//! Addresses of a hub and of what it redirects to: TLS everywhere, but on this machine.

use std::net::IpAddr;

use anyhow::{anyhow, ensure};
use ureq::http::Uri;
use ureq::http::uri::Scheme;

/// Where something can be asked for: `https`, or `http` on the loopback.
#[derive(Debug, Clone)]
pub(super) struct Address {
    uri: Uri,
}

impl Address {
    /// Reads an endpoint; it may have a path, as mirrors have, and nothing behind it.
    ///
    /// # Errors
    /// What is no such address, in words for the command line.
    pub(super) fn endpoint(text: &str) -> anyhow::Result<Self> {
        let text = text.trim_end_matches('/');
        ensure!(
            !text.contains(['?', '#']),
            "an endpoint has neither ? nor #"
        );
        Self::parse(text)
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let uri: Uri = text
            .parse()
            .map_err(|_| anyhow!("{text:?} is no address: say https://HOST"))?;
        let address = Self { uri };
        let host = address.host();
        ensure!(!host.is_empty(), "{text:?} names no host: say https://HOST");
        let authority = address.uri.authority().map_or("", |known| known.as_str());
        ensure!(
            !authority.contains('@'),
            "an address holds no user and no password: tokens come from HF_TOKEN"
        );
        let scheme = address.uri.scheme();
        if scheme == Some(&Scheme::HTTP) {
            ensure!(
                address.is_loopback(),
                "plain http is for this machine alone: say https://{host}"
            );
        } else {
            ensure!(
                scheme == Some(&Scheme::HTTPS),
                "{text:?} is no address: say https://HOST"
            );
        }
        Ok(address)
    }

    /// Gives what lies under it at a path that begins with `/`.
    ///
    /// # Errors
    /// A path that cannot stand in an address.
    pub(super) fn join(&self, path: &str) -> anyhow::Result<Self> {
        let base = self.uri.to_string();
        Self::parse(&format!("{}{path}", base.trim_end_matches('/')))
    }

    /// Gives where a redirect from here leads: to another path, or to another host by TLS.
    ///
    /// # Errors
    /// What is no address; plain http, unless it leads from this machine to this machine.
    pub(super) fn follow(&self, location: &str) -> anyhow::Result<Self> {
        let location = location.split('#').next().unwrap_or_default();
        let scheme = self.uri.scheme_str().unwrap_or("https");
        let target = if location.starts_with("//") {
            format!("{scheme}:{location}")
        } else if location.starts_with('/') {
            let authority = self.uri.authority().map_or("", |known| known.as_str());
            format!("{scheme}://{authority}{location}")
        } else {
            location.to_owned()
        };
        let target = Self::parse(&target)?;
        ensure!(
            target.is_tls() || !self.is_tls(),
            "{} redirects to plain http, which is not followed",
            self.host()
        );
        Ok(target)
    }

    /// Whether it is asked by TLS.
    pub(super) fn is_tls(&self) -> bool {
        self.uri.scheme() == Some(&Scheme::HTTPS)
    }

    /// Whether it lies on this machine.
    pub(super) fn is_loopback(&self) -> bool {
        let host = self.host();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Whether the same server answers for both: what is meant for one may be told to the other.
    pub(super) fn same_origin(&self, other: &Self) -> bool {
        self.is_tls() == other.is_tls()
            && self.host() == other.host()
            && self.port() == other.port()
    }

    /// The host's name, lower case.
    pub(super) fn host(&self) -> String {
        self.uri.host().unwrap_or_default().to_ascii_lowercase()
    }

    fn port(&self) -> u16 {
        let usual = if self.is_tls() { 443 } else { 80 };
        self.uri.port_u16().unwrap_or(usual)
    }

    /// What to ask for.
    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// It as people write it; a signature in a query is nobody's to read.
    pub(super) fn shown(&self) -> String {
        let text = self.uri.to_string();
        let bare = text.split('?').next().unwrap_or_default();
        bare.trim_end_matches('/').to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        match Address::endpoint(text) {
            Ok(address) => address.shown(),
            Err(error) => format!("refused: {error}"),
        }
    }

    #[test]
    fn plain_http_is_for_this_machine_alone() {
        for good in [
            "https://huggingface.co",
            "https://mirror.example:8443/hf",
            "http://127.0.0.1:8000",
            "http://[::1]:8000",
            "http://localhost",
        ] {
            assert_eq!(told(good), good);
            assert_eq!(told(&format!("{good}/")), good);
        }
        for (bad, why) in [
            ("http://huggingface.co", "this machine alone"),
            ("http://10.0.0.1", "this machine alone"),
            ("http://127.0.0.1.example.com", "this machine alone"),
            ("huggingface.co", "https://HOST"),
            ("ftp://huggingface.co", "https://HOST"),
            ("https://", "https://HOST"),
            ("https://me:secret@huggingface.co", "HF_TOKEN"),
            ("https://huggingface.co?x=1", "neither ? nor #"),
        ] {
            let got = told(bad);
            assert!(
                got.starts_with("refused") && got.contains(why),
                "{bad}: {got}"
            );
            assert!(!got.contains("secret"), "{got}");
        }
    }

    #[test]
    fn a_redirect_leads_to_a_path_or_to_another_host_by_tls() {
        let hub = Address::endpoint("https://hub.example/base").unwrap();
        let at = hub.join("/a/b").unwrap();
        assert_eq!(at.shown(), "https://hub.example/base/a/b");
        let leads = |location: &str| at.follow(location).map(|to| to.shown());
        for (location, to) in [
            ("/api/x?sig=1#top", "https://hub.example/api/x"),
            ("https://cdn.example/y?sig=1", "https://cdn.example/y"),
            ("//cdn.example/y", "https://cdn.example/y"),
        ] {
            assert_eq!(leads(location).unwrap(), to, "{location}");
        }
        for bad in [
            "http://cdn.example/y",
            "http://127.0.0.1:80/y",
            "file:///etc/passwd",
            "y",
            "",
            "https://user@cdn.example/",
        ] {
            assert!(leads(bad).is_err(), "{bad}");
        }
        let here = Address::endpoint("http://127.0.0.1:1").unwrap();
        assert!(here.follow("http://127.0.0.1:2/x").is_ok());
        assert!(here.follow("http://cdn.example/x").is_err());
    }

    #[test]
    fn another_port_is_another_origin() {
        let at = |text| Address::endpoint(text).unwrap();
        let hub = at("https://hub.example");
        assert!(hub.same_origin(&at("https://HUB.example:443/x")));
        for other in [
            "https://hub.example:8443",
            "https://cdn.hub.example",
            "https://hub.example.org",
        ] {
            assert!(!hub.same_origin(&at(other)), "{other}");
        }
        assert!(!at("http://localhost:443").same_origin(&at("https://localhost")));
    }
}
