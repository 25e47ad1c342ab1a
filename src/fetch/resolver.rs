//! Looks names up, and refuses those that lead to private addresses. What it returns is what is connected to, so a name
//! cannot mean one address when it is checked and another when it is used.

use std::sync::Arc;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::HostPattern;
use super::address::is_public;

/// A resolver behind which only public addresses, and those of allowed hosts, are found.
#[derive(Debug)]
pub(super) struct GuardedResolver<R> {
    pub names: R,
    pub allowed: Arc<Vec<HostPattern>>,
}

/// A name that leads to an address that may not be fetched from.
#[derive(Debug, thiserror::Error)]
#[error("{host} has the private address {address}")]
pub(super) struct PrivateAddress {
    pub host: String,
    pub address: std::net::IpAddr,
    pub port: u16,
}

impl<R: Resolver> Resolver for GuardedResolver<R> {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.names.resolve(uri, config, timeout)?;
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        // One private address among public ones is no accident.
        let private = found.iter().find(|it| !is_public(it.ip()));
        let is_allowed = |port| self.allowed.iter().any(|it| it.matches(host, port));
        match private {
            Some(found) if !is_allowed(found.port()) => {
                Err(ureq::Error::Other(Box::new(PrivateAddress {
                    host: host.to_owned(),
                    address: found.ip(),
                    port: found.port(),
                })))
            }
            _ => Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use ureq::Agent;
    use ureq::unversioned::transport::DefaultConnector;

    use super::*;

    /// Says that every name has these addresses.
    #[derive(Debug)]
    struct Fixed(&'static [&'static str]);

    impl Resolver for Fixed {
        fn resolve(
            &self,
            _: &Uri,
            _: &Config,
            _: NextTimeout,
        ) -> Result<ResolvedSocketAddrs, ureq::Error> {
            let mut found = self.empty();
            for address in self.0 {
                found.push(address.parse::<SocketAddr>().expect("an address"));
            }
            Ok(found)
        }
    }

    fn refusal(addresses: &'static [&'static str], allowed: &str) -> Option<String> {
        let resolver = GuardedResolver {
            names: Fixed(addresses),
            allowed: Arc::new(vec![allowed.parse().unwrap()]),
        };
        let config = Agent::config_builder().proxy(None).build();
        let agent = Agent::with_parts(config, DefaultConnector::default(), resolver);
        let error = agent.get("http://name.example/").call().unwrap_err();
        match error {
            ureq::Error::Other(error) => Some(error.downcast_ref::<PrivateAddress>()?.to_string()),
            _ => None,
        }
    }

    #[test]
    fn a_public_name_with_a_private_address_is_not_connected_to() {
        let expected = Some("name.example has the private address 127.0.0.1".to_owned());
        assert_eq!(refusal(&["127.0.0.1:1"], "other"), expected);
        assert_eq!(refusal(&["1.1.1.1:1", "127.0.0.1:1"], "other"), expected);
        // Refused by the machine, as nobody listens there, and not by us.
        assert_eq!(refusal(&["127.0.0.1:1"], "name.example:1"), None);
    }
}
