//! Settings of mail: what was typed, and the mail server that it names.

use lettre::message::Mailbox;
use manifold_core::{Error, Result, Secret};
use serde::Deserialize;
use url::{Host, Url};

/// `[mail]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailConfig {
    /// The mail server: `smtp://user:password@host:587`, or `smtps://…` for TLS from the first byte; empty = no mail.
    pub url: Secret<String>,
    /// Whose mail it is, such as `Manifold <manifold@example.org>`.
    pub from: String,
    /// Whether mail travels encrypted.
    pub tls: MailTls,
}

/// Whether mail travels encrypted.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum MailTls {
    /// Always: a server that cannot do so gets no mail.
    #[default]
    Required,
    /// Never: for a server on the same machine or in a network of one's own.
    None,
}

/// How the connection becomes a secret one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// TLS from the first byte.
    Wrapped,
    /// STARTTLS (RFC 3207), and nothing before it.
    Upgraded,
    /// Not at all.
    Plain,
}

/// A mail server, checked.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) way: Way,
    /// Who we are there.
    pub(super) login: Option<(String, Secret<String>)>,
    pub(super) from: Mailbox,
    /// Where links in mails lead, without a slash at its end.
    pub(super) public_url: String,
}

impl MailConfig {
    /// Refuses what would be refused at the start.
    ///
    /// # Errors
    /// `CONFIG_INVALID`.
    pub fn validate(&self, public_url: &str) -> Result<()> {
        self.check(public_url).map(|_| ())
    }

    /// The mail server; None if there is none.
    pub(super) fn check(&self, public_url: &str) -> Result<Option<Server>> {
        if self.url.expose().is_empty() {
            return Ok(None);
        }
        let unread = || wrong("mail.url", "must be such as smtp://user:password@mail.example:587 or smtps://…");
        let url = Url::parse(self.url.expose()).map_err(|_| unread())?;
        let way = match (url.scheme(), self.tls) {
            ("smtps", MailTls::Required) => Way::Wrapped,
            ("smtp", MailTls::Required) => Way::Upgraded,
            ("smtp", MailTls::None) => Way::Plain,
            ("smtps", MailTls::None) => return Err(wrong("mail.tls", "must be required where mail.url is smtps://")),
            _ => return Err(unread()),
        };
        let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        let host = url.host_str().filter(|host| bare && !host.is_empty()).ok_or_else(unread)?;
        let login = match (url.username(), url.password()) {
            ("", None) => None,
            (user, Some(password)) if !user.is_empty() => {
                Some((decoded(user).ok_or_else(unread)?, Secret::new(decoded(password).ok_or_else(unread)?)))
            }
            _ => return Err(wrong("mail.url", "names a user without a password, or a password without a user")),
        };
        if way == Way::Plain && login.is_some() && !is_here(&url) {
            return Err(wrong("mail.tls", "must be required: a password does not travel in the clear"));
        }
        let from = self.from.parse();
        let from = from.map_err(|_| wrong("mail.from", "must be such as Manifold <manifold@example.org>"))?;
        if public_url.is_empty() {
            return Err(wrong("edge.public_url", "must be set where mail.url is: links in mails lead there"));
        }
        let port = url.port().unwrap_or(if way == Way::Wrapped { 465 } else { 587 });
        let public_url = public_url.trim_end_matches('/').to_owned();
        let host = host.trim_matches(['[', ']']).to_owned();
        Ok(Some(Server { host, port, way, login, from, public_url }))
    }
}

/// What stands for special letters in a URL, as these letters.
fn decoded(text: &str) -> Option<String> {
    let query = format!("text={}", text.replace('+', "%2B").replace('&', "%26"));
    url::form_urlencoded::parse(query.as_bytes()).next().map(|(_, text)| text.into_owned())
}

/// Whether the server is on this machine.
fn is_here(url: &Url) -> bool {
    // The parser of URLs knows addresses in schemes of the web only.
    let host = url.host_str().and_then(|host| Host::parse(host).ok());
    match host {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

fn wrong(key: &'static str, message: &str) -> Error {
    Error::invalid("CONFIG_INVALID", format!("{key}: {message}")).at(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(url: &str, tls: MailTls) -> MailConfig {
        MailConfig { url: Secret::from(url), from: "Manifold <manifold@example.org>".to_owned(), tls }
    }

    #[test]
    fn a_mail_server_is_named_by_one_address() {
        let check = |url, tls| mail(url, tls).check("https://api.example/").unwrap().unwrap();

        let upgraded = check("smtp://ada:p%40ss+w%20d&x@mail.example", MailTls::Required);
        let wrapped = check("smtps://mail.example:2465", MailTls::Required);
        let here = check("smtp://ada:secret@127.0.0.1:25", MailTls::None);

        let (user, password) = upgraded.login.unwrap();
        assert_eq!((user.as_str(), password.expose().as_str()), ("ada", "p@ss+w d&x"));
        assert_eq!(
            (upgraded.way, upgraded.port, upgraded.public_url.as_str()),
            (Way::Upgraded, 587, "https://api.example")
        );
        assert_eq!((wrapped.way, wrapped.port, wrapped.login.is_none()), (Way::Wrapped, 2465, true));
        assert_eq!((here.way, here.port), (Way::Plain, 25));
        assert!(MailConfig::default().check("").unwrap().is_none(), "no mail is no error");
    }

    #[test]
    fn what_cannot_work_or_gives_the_password_away_is_refused() {
        use MailTls::{None, Required};
        for (url, tls, public_url, key) in [
            ("mail.example", Required, "https://a", "mail.url"),
            ("http://mail.example", Required, "https://a", "mail.url"),
            ("smtp://mail.example/path", Required, "https://a", "mail.url"),
            ("smtp://ada@mail.example", Required, "https://a", "mail.url"),
            ("smtps://mail.example", None, "https://a", "mail.tls"),
            ("smtp://ada:secret@mail.example", None, "https://a", "mail.tls"),
            ("smtp://ada:secret@10.0.0.7", None, "https://a", "mail.tls"),
            ("smtp://mail.example", Required, "", "edge.public_url"),
        ] {
            let error = mail(url, tls).check(public_url).unwrap_err();

            assert_eq!((error.reason(), error.param()), ("CONFIG_INVALID", Some(key)), "{url}");
            assert!(!error.message().contains("secret"), "{error}");
        }
        let nobody = MailConfig { from: "nobody".to_owned(), ..mail("smtp://mail.example", Required) };
        assert_eq!(nobody.check("https://a").unwrap_err().param(), Some("mail.from"));
    }
}
