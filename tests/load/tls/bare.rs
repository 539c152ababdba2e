//! The yardstick: a server that speaks as much SMTP as a client needs, under TLS of the same library, and stores nothing.
//! So many threads take connections, each serves one at a time.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A client that says nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest line that is listened to.
const MAX_LINE: u64 = 64 * 1024;

/// Where to listen, and with which certificate.
pub struct Wish {
    certificate: String,
    key: String,
    threads: usize,
    implicit: bool,
    /// AES-128-GCM first, whatever the client prefers, as vSMTP can be told. Without, the library's own way: as the client
    /// prefers.
    aes128: bool,
    address: String,
}

impl Wish {
    /// Reads a command line; `None` if it is none.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Option<Wish> {
        let (certificate, key, address) = (String::new(), String::new(), String::new());
        let mut wish = Wish { certificate, key, threads: 128, implicit: false, aes128: false, address };
        while let Some(word) = words.next() {
            match word.as_str() {
                "--certificate" => wish.certificate = words.next()?,
                "--key" => wish.key = words.next()?,
                "--threads" => wish.threads = words.next()?.parse().ok()?,
                "--implicit" => wish.implicit = true,
                "--aes128" => wish.aes128 = true,
                _ if !word.starts_with('-') && wish.address.is_empty() => wish.address = word,
                _ => return None,
            }
        }
        (![&wish.certificate, &wish.key, &wish.address].iter().any(|word| word.is_empty())).then_some(wish)
    }
}

/// Serves for ever.
pub fn run(wish: &Wish) -> Result<String, String> {
    let config = config(wish)?;
    let listener = TcpListener::bind(&wish.address).map_err(|error| format!("{}: {error}", wish.address))?;
    std::thread::scope(|scope| {
        for _ in 0..wish.threads {
            scope.spawn(|| {
                for stream in listener.incoming().flatten() {
                    // A client that breaks off has had its say.
                    let _ = serve(stream, &config, wish.implicit);
                }
            });
        }
    });
    Ok(String::new())
}

fn config(wish: &Wish) -> Result<Arc<ServerConfig>, String> {
    let chain: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_file_iter(&wish.certificate)
        .map_err(|error| format!("{}: {error}", wish.certificate))?
        .collect();
    let chain = chain.map_err(|error| format!("{}: {error}", wish.certificate))?;
    let key = PrivateKeyDer::from_pem_file(&wish.key).map_err(|error| format!("{}: {error}", wish.key))?;
    let mut provider = aws_lc_rs::default_provider();
    if wish.aes128 {
        provider.cipher_suites.sort_by_key(|suite| !format!("{:?}", suite.suite()).contains("AES_128"));
    }
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS12, &rustls::version::TLS13])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| error.to_string())?;
    config.ignore_client_order = wish.aes128;
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| error.to_string())?;
    Ok(Arc::new(config))
}

fn serve(stream: TcpStream, config: &Arc<ServerConfig>, implicit: bool) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut clear = BufReader::new(stream);
    if !implicit {
        clear.get_mut().write_all(b"220 bare.test ESMTP\r\n")?;
        if !talk(&mut clear, "250-bare.test\r\n250-PIPELINING\r\n250 STARTTLS\r\n")? {
            return Ok(());
        }
    }
    let connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    let mut secure = BufReader::new(StreamOwned::new(connection, clear.into_inner()));
    if implicit {
        secure.get_mut().write_all(b"220 bare.test ESMTP\r\n")?;
    }
    talk(&mut secure, "250-bare.test\r\n250 PIPELINING\r\n").map(|_| ())
}

/// Answers commands until the client is gone; true if TLS is to begin.
fn talk(stream: &mut BufReader<impl Read + Write>, hello: &str) -> io::Result<bool> {
    let mut line = Vec::new();
    while hear(stream, &mut line)? {
        let reply = match line.first().map(u8::to_ascii_uppercase) {
            Some(b'E' | b'H') => hello,
            Some(b'S') => "220 2.0.0 Ready to start TLS\r\n",
            Some(b'Q') => "221 2.0.0 Bye\r\n",
            Some(b'D') => {
                stream.get_mut().write_all(b"354 End data with <CR><LF>.<CR><LF>\r\n")?;
                while hear(stream, &mut line)? && line != b".\r\n" {}
                "250 2.0.0 Ok\r\n"
            }
            _ => "250 2.0.0 Ok\r\n",
        };
        stream.get_mut().write_all(reply.as_bytes())?;
        match reply.get(..3) {
            Some("220") => return Ok(true),
            Some("221") => return Ok(false),
            _ => {}
        }
    }
    Ok(false)
}

fn hear(stream: &mut BufReader<impl Read + Write>, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    Ok(stream.by_ref().take(MAX_LINE).read_until(b'\n', line)? > 0)
}
