//! The way to the mail server (SMTP, RFC 5321).

use std::time::Duration;

use lettre::message::header::{ContentTransferEncoding, ContentType};
use lettre::message::{Body, Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{CertificateStore, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use manifold_bus::Failure;
use manifold_core::{Code, Error, JobId, Result};
use url::Url;

use super::config::{Server, Way};
use super::letter::Letter;

/// For each step of a conversation with the mail server.
const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes of a line.
const MAX_LINE: usize = 998;

/// A mail server.
pub struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl Smtp {
    /// Ready to connect; nothing is connected yet.
    pub fn new(server: &Server) -> Result<Self> {
        let tls = match server.way {
            Way::Plain => Tls::None,
            Way::Upgraded => Tls::Required(parameters(&server.host)?),
            Way::Wrapped => Tls::Wrapper(parameters(&server.host)?),
        };
        let builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(server.host.as_str());
        let mut builder = builder.port(server.port).tls(tls).timeout(Some(PATIENCE));
        // How we greet: by the name under which we are known.
        let url = Url::parse(&server.public_url).ok();
        if let Some(name) = url.as_ref().and_then(Url::domain) {
            builder = builder.hello_name(ClientId::Domain(name.to_owned()));
        }
        if let Some((user, password)) = &server.login {
            builder = builder.credentials(Credentials::new(user.clone(), password.expose().clone()));
        }
        Ok(Self { transport: builder.build(), from: server.from.clone() })
    }

    /// Hands a letter over. The same job writes the same message id, so that a letter that is sent again after a crash can
    /// be recognised.
    pub async fn send(&self, letter: &Letter, job: JobId) -> Result<(), Failure> {
        let id = format!("<{job}@{}>", self.from.email.domain());
        let to = letter.to.parse().map(|address| Mailbox::new(None, address));
        let to = to.map_err(|error| refused(Error::internal("read the address of a letter").because(error)))?;
        let message = Message::builder().from(self.from.clone()).to(to).subject(&letter.subject).message_id(Some(id));
        let message = message.header(ContentType::TEXT_PLAIN);
        // As it is where it may be (RFC 5322 §2.1.1), so that links stay in one piece.
        let plain = letter.text.is_ascii() && letter.text.lines().all(|line| line.len() <= MAX_LINE);
        let message = if plain {
            let text = letter.text.replace('\n', "\r\n").into_bytes();
            message.body(Body::dangerous_pre_encoded(text, ContentTransferEncoding::SevenBit))
        } else {
            message.body(letter.text.clone())
        };
        let message = message.map_err(|error| refused(Error::internal("write a letter").because(error)))?;
        self.transport.send(message).await.map(|_| ()).map_err(failure)
    }
}

fn parameters(host: &str) -> Result<TlsParameters> {
    // The certificates of the machine, or Mozilla's where it has none.
    let bare = rustls_native_certs::load_native_certs().certs.is_empty();
    let store = if bare { CertificateStore::WebpkiRoots } else { CertificateStore::Default };
    let parameters = TlsParameters::builder(host.to_owned()).certificate_store(store).build();
    parameters.map_err(|error| Error::internal("set up TLS to the mail server").because(error))
}

/// Whether to come again. What the server says may hold addresses: only its code is kept.
fn failure(error: lettre::transport::smtp::Error) -> Failure {
    let unavailable = |what: String| Error::new(Code::Unavailable, "MAIL_UNAVAILABLE", what);
    let Some(status) = error.status() else {
        return unavailable("the mail server cannot be reached".to_owned()).because(error).into();
    };
    let answered = unavailable(format!("the mail server answers {status}"));
    // 53x is about us (RFC 4954 §6), and mended by who runs the house: mails wait for that.
    let about_us = u16::from(status) / 10 == 53;
    if error.is_permanent() && !about_us { refused(answered) } else { answered.into() }
}

fn refused(source: Error) -> Failure {
    Failure::Dead { reason: "MAIL_REFUSED", source }
}
