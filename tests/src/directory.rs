//! A private directory of OpenLDAP, which ends when it is dropped.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::{free_port, make_certificate, run, said, sign_certificate, wait_until};

/// What it takes to run one.
pub const DIRECTORY: [&str; 3] = ["slapd", "slapadd", "openssl"];

/// A directory of `dc=example,dc=com`, which only `cn=mail,dc=example,dc=com` may read. It speaks TLS for `localhost`.
pub struct Directory {
    folder: tempfile::TempDir,
    port: u16,
    tls_port: u16,
    child: Option<Child>,
}

impl Directory {
    /// The password of `cn=mail,dc=example,dc=com`.
    pub const PASSWORD: &str = "s3cret:@/";

    /// Makes a directory with these entries, in LDIF, below those of `dc=example,dc=com` and of the one who may read it.
    pub fn prepare(ldif: &str) -> Directory {
        let folder = tempfile::Builder::new().prefix("vsmtp-slapd.").tempdir().expect("make a folder");
        // Whoever asks it is another user.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("open the folder");
        for authority in ["ca", "other"] {
            make_certificate(folder.path(), authority, &[authority]);
        }
        sign_certificate(folder.path(), "ca", "server", "DNS:localhost");
        let directory = Directory { folder, port: free_port(), tls_port: free_port(), child: None };
        fs::create_dir(directory.file("data")).expect("make its folder");
        let place = directory.folder.path().display();
        let config = format!(
            "include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\n\
             include /etc/ldap/schema/inetorgperson.schema\npidfile {place}/pid\nargsfile {place}/args\n\
             TLSCertificateFile {place}/server.pem\nTLSCertificateKeyFile {place}/server.key\n\
             modulepath /usr/lib/ldap\nmoduleload back_mdb\ndatabase mdb\nmaxsize 16777216\ndirectory {place}/data\n\
             suffix \"dc=example,dc=com\"\naccess to attrs=userPassword by anonymous auth by * none\n\
             access to * by dn.exact=\"cn=mail,dc=example,dc=com\" read by * none\n"
        );
        fs::write(directory.file("conf"), config).expect("write its configuration");
        let ldif = format!(
            "dn: dc=example,dc=com\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: Example\n\n\
             dn: cn=mail,dc=example,dc=com\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: mail\n\
             userPassword: {}\n\n{ldif}",
            Self::PASSWORD
        );
        fs::write(directory.file("ldif"), ldif).expect("write its entries");
        let (conf, ldif) = (directory.file("conf"), directory.file("ldif"));
        said(&run(
            "slapadd",
            &["-q".as_ref(), "-f".as_ref(), conf.as_os_str(), "-l".as_ref(), ldif.as_os_str()],
        ));
        directory
    }

    /// Has it run.
    pub fn start(&mut self) {
        let urls = format!(
            "{} {} {}",
            self.url(),
            self.tls_url().replace("localhost", "127.0.0.1"),
            self.local_url()
        );
        let mut command = Command::new("/usr/sbin/slapd");
        command.arg("-f").arg(self.file("conf")).args(["-h", &urls, "-d", "0"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("start slapd"));
        wait_until("the directory listens", || {
            std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
        let socket = self.file("ldapi");
        wait_until("its socket is there", || socket.exists());
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o777)).expect("open its socket");
    }

    /// Ends it at once, with all that is connected.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// In clear.
    pub fn url(&self) -> String {
        format!("ldap://127.0.0.1:{}", self.port)
    }

    /// In clear until StartTLS, by the name that is in its certificate.
    pub fn named_url(&self) -> String {
        format!("ldap://localhost:{}", self.port)
    }

    /// By TLS, by the name that is in its certificate.
    pub fn tls_url(&self) -> String {
        format!("ldaps://localhost:{}", self.tls_port)
    }

    /// By the Unix socket.
    pub fn local_url(&self) -> String {
        format!("ldapi://{}", self.file("ldapi").display().to_string().replace('/', "%2F"))
    }

    /// The authority that its certificate is of.
    pub fn ca_file(&self) -> String {
        self.file("ca.pem").display().to_string()
    }

    /// Another one.
    pub fn other_ca_file(&self) -> String {
        self.file("other.pem").display().to_string()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.stop();
    }
}
