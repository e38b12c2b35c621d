//! Who may look: whoever is on this machine or, where a token is set, whoever has it.
//!
//! Pages of other origins are kept out in either case: a browser would lend them the cookie, and
//! any name can be made to point at 127.0.0.1.

use std::net::{IpAddr, SocketAddr};

use axum::http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName};
use sha2::{Digest, Sha256};

/// The cookie that stands for the token.
const COOKIE_NAME: &str = "tracklens";
/// Fewest characters of a token.
const LEAST: usize = 8;

/// Why a request is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A page of another origin, or a name that is not this machine's.
    Foreign,
    /// Without the token.
    NoToken,
}

/// Why the live page cannot be opened as it is set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// Others could look, and nothing keeps them out.
    #[error(
        "LIVE_PAGE_BIND={bind} can be reached from other machines: set LIVE_PAGE_TOKEN (in the \
         environment, {LEAST} characters or more), or bind to 127.0.0.1"
    )]
    TokenNeeded {
        /// The address.
        bind: SocketAddr,
    },
    /// A token that is easily guessed.
    #[error("LIVE_PAGE_TOKEN should have {LEAST} characters or more of ASCII without spaces")]
    WeakToken,
}

/// The rule of one server.
#[derive(Clone)]
pub struct Access {
    token: Option<String>,
    cookie: String,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "***");
        f.debug_struct("Access").field("token", &token).finish()
    }
}

impl Access {
    /// The rule for a server at this address.
    ///
    /// # Errors
    /// Where other machines can reach the address and there is no token, or one that is no good.
    pub fn new(bind: SocketAddr, token: Option<String>) -> Result<Self, AccessError> {
        if let Some(token) = &token
            && (token.len() < LEAST || !token.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            return Err(AccessError::WeakToken);
        }
        if token.is_none() && !bind.ip().is_loopback() {
            return Err(AccessError::TokenNeeded { bind });
        }
        // The cookie outlives a restart of the node, and does not give the token away.
        let hash = Sha256::digest(format!(
            "tracklens live page {}",
            token.as_deref().unwrap_or("")
        ));
        let cookie = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { token, cookie })
    }

    /// Whether this is the token.
    #[must_use]
    pub fn is_token(&self, text: &str) -> bool {
        self.token.as_ref().is_some_and(|token| same(token, text))
    }

    /// The header that has a browser remember that it knows the token.
    #[must_use]
    pub fn set_cookie(&self) -> String {
        format!(
            "{COOKIE_NAME}={}; Path=/; HttpOnly; SameSite=Strict",
            self.cookie
        )
    }

    /// Whether this request may be answered.
    ///
    /// # Errors
    /// Where it may not.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        self.check_origin(headers)?;
        let Some(token) = &self.token else {
            return Ok(());
        };
        let bearer = text(headers, &AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        let cookies = text(headers, &COOKIE).unwrap_or_default();
        let cookie = cookies
            .split(';')
            .filter_map(|pair| pair.trim().split_once('='))
            .any(|(name, value)| name == COOKIE_NAME && same(value, &self.cookie));
        if cookie || bearer.is_some_and(|bearer| same(bearer.trim(), token)) {
            Ok(())
        } else {
            Err(Refusal::NoToken)
        }
    }

    /// Whether the request is from a page of ours, or from no page.
    ///
    /// # Errors
    /// Where it is from another.
    pub fn check_origin(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let host = text(headers, &HOST).unwrap_or_default();
        if self.token.is_none() && !is_this_machine(host) {
            return Err(Refusal::Foreign);
        }
        let Some(origin) = text(headers, &ORIGIN) else {
            return Ok(());
        };
        match origin.split_once("://") {
            Some((_, authority)) if authority.eq_ignore_ascii_case(host) => Ok(()),
            _ => Err(Refusal::Foreign),
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Whether an authority (`name:port`) can only mean this machine.
fn is_this_machine(authority: &str) -> bool {
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => authority,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let address: Option<IpAddr> = name.parse().ok();
    name.eq_ignore_ascii_case("localhost") || address.is_some_and(|ip| ip.is_loopback())
}

/// Compares in a time that tells nothing of where two texts differ.
fn same(a: &str, b: &str) -> bool {
    let (a, b) = (Sha256::digest(a), Sha256::digest(b));
    a.iter().zip(&b).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    fn access(bind: &str, token: Option<&str>) -> Result<Access, AccessError> {
        Access::new(bind.parse().unwrap(), token.map(String::from))
    }

    #[test]
    fn other_machines_need_a_token() {
        let error = access("0.0.0.0:8080", None).unwrap_err().to_string();
        assert!(error.contains("set LIVE_PAGE_TOKEN"), "{error}");
        let weak = access("0.0.0.0:8080", Some("short"));
        assert_eq!(weak.unwrap_err(), AccessError::WeakToken);
        assert!(access("0.0.0.0:8080", Some("long-enough")).is_ok());
        assert!(access("[::1]:8080", None).is_ok());
    }

    #[test]
    fn the_token_or_its_cookie_opens_and_nothing_else_does() {
        let access = access("0.0.0.0:1", Some("long-enough")).unwrap();
        let check = |list: &[_]| access.check(&headers(list));
        assert_eq!(check(&[("host", "door:1")]), Err(Refusal::NoToken));
        let bearer = |token| check(&[("host", "door:1"), ("authorization", token)]);
        assert_eq!(bearer("Bearer long-enough"), Ok(()));
        assert_eq!(bearer("Bearer long-enougH"), Err(Refusal::NoToken));
        let cookie = access.set_cookie();
        let cookie = format!("a=b; {}", cookie.split(';').next().unwrap());
        assert_eq!(check(&[("host", "door:1"), ("cookie", &cookie)]), Ok(()));
        assert!(!cookie.contains("long-enough"));
        assert!(!format!("{access:?}").contains("long-enough"));
    }

    #[test]
    fn pages_of_others_are_kept_out() {
        let access = access("127.0.0.1:1", None).unwrap();
        let check = |host, origin| access.check(&headers(&[("host", host), ("origin", origin)]));
        assert_eq!(check("localhost:1", "http://localhost:1"), Ok(()));
        assert_eq!(check("[::1]:1", "http://[::1]:1"), Ok(()));
        for (host, origin) in [
            ("127.0.0.1:1", "http://evil.example"),
            ("evil.example:1", "http://evil.example:1"),
            ("127.0.0.1:1", "null"),
        ] {
            assert_eq!(
                check(host, origin),
                Err(Refusal::Foreign),
                "{host} {origin}"
            );
        }
        assert!(
            access
                .check(&headers(&[("host", "localhost.evil.example")]))
                .is_err()
        );
    }
}
