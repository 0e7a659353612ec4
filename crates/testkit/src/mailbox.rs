//! A mail server that keeps what it is given (SMTP, RFC 5321), without TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use manifold_runtime::Tasks;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::timeout;

/// Longest wait for a mail that is expected.
const PATIENCE: Duration = Duration::from_secs(30);

/// A mail server. It ends with the test.
pub struct Mailbox {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<State>,
    _tasks: Tasks,
}

/// A mail that has come.
#[derive(Clone, Debug)]
pub struct Mail {
    /// Whom it was handed over for.
    pub to: String,
    /// Its head and its text.
    pub text: String,
}

#[derive(Default)]
struct State {
    mails: Mutex<Vec<Mail>>,
    /// Every line that a client said, but for mails.
    said: Mutex<Vec<String>>,
    /// How it answers whoever names an address, if it takes no mail.
    refusal: Mutex<Option<String>>,
    changed: Notify,
}

impl Mailbox {
    /// Opens it on a free port.
    pub async fn open() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, state, tasks) = (listener.local_addr()?, Arc::<State>::default(), Tasks::new());
        let (shared, spawner) = (Arc::clone(&state), tasks.clone());
        tasks.spawn("mailbox", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                spawner.spawn("mail client", async move {
                    let _ = state.serve(stream).await;
                });
            }
        });
        Ok(Self { address, state, _tasks: tasks })
    }

    /// Its address as `mail.url`.
    pub fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }

    /// Takes no mail from now on and answers this; None = takes mail.
    pub fn refuse(&self, answer: Option<&str>) {
        *lock(&self.state.refusal) = answer.map(str::to_owned);
    }

    /// The next mail to this address that nobody has taken out, once it has come.
    pub async fn take(&self, to: &str) -> Mail {
        let find = || {
            let mut mails = lock(&self.state.mails);
            let found = mails.iter().position(|mail| mail.to.eq_ignore_ascii_case(to));
            found.map(|index| mails.remove(index))
        };
        self.until(find).await.unwrap_or_else(|| panic!("no mail to {to} has come: {:?}", self.said()))
    }

    /// How many mails nobody has taken out.
    pub fn n_waiting(&self) -> usize {
        lock(&self.state.mails).len()
    }

    /// What clients said so far, but for mails.
    pub fn said(&self) -> Vec<String> {
        lock(&self.state.said).clone()
    }

    async fn until<T>(&self, mut find: impl FnMut() -> Option<T>) -> Option<T> {
        let waiting = async {
            loop {
                let changed = self.state.changed.notified();
                if let Some(found) = find() {
                    return found;
                }
                changed.await;
            }
        };
        timeout(PATIENCE, waiting).await.ok()
    }
}

impl Mail {
    /// What stands behind the `#` of its link.
    pub fn token(&self) -> &str {
        let rest = self.text.split_once('#').map_or("", |(_, rest)| rest);
        rest.split_whitespace().next().unwrap_or_default()
    }
}

impl State {
    /// One conversation.
    async fn serve(&self, stream: TcpStream) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        stream.write_all(b"220 mailbox\r\n").await?;
        let mut to = String::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            lock(&self.said).push(line.trim_end().to_owned());
            let word = line.split([' ', '\r']).next().unwrap_or_default().to_ascii_uppercase();
            let refusal = lock(&self.refusal).clone();
            let answer = match word.as_str() {
                "EHLO" | "HELO" => "250 mailbox".to_owned(),
                "RCPT" if refusal.is_some() => refusal.unwrap_or_default(),
                "RCPT" => {
                    to = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                    "250 yes".to_owned()
                }
                "DATA" => {
                    stream.write_all(b"354 go on\r\n").await?;
                    let text = read_mail(&mut stream).await?;
                    lock(&self.mails).push(Mail { to: std::mem::take(&mut to), text });
                    "250 kept".to_owned()
                }
                "QUIT" => "221 bye".to_owned(),
                _ => "250 yes".to_owned(),
            };
            stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
            self.changed.notify_waiters();
        }
    }
}

/// Lines up to a single dot, without the dots that the sender has doubled.
async fn read_mail(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut text = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 || line == ".\r\n" {
            return Ok(text);
        }
        text.push_str(line.strip_prefix('.').unwrap_or(&line));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
