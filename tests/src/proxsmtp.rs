//! `proxsmtpd` of Debian's package, a content filter: a proxy that has each message go through a program. It ends when it is
//! dropped.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::mta::{signal, wait_until};

/// A scanner that finds EICAR, and says what it found in the header; what holds REFUSE it refuses for good.
const SCAN: &str = "#!/bin/sh
mail=$(cat; printf x)
word=clean
case $mail in
*EICAR*) word=infected ;;
*REFUSE*) echo '550 5.7.1 not this one' >&2; exit 1 ;;
esac
printf 'X-Virus-Status: %s\\r\\n%s' \"$word\" \"${mail%x}\"
";

/// A running proxy.
pub struct Proxsmtp(Child);

impl Proxsmtp {
    /// What must be installed.
    pub const PROGRAM: &str = "proxsmtpd";

    /// Starts one on this port of 127.0.0.1, which brings what it has seen to that one. `folder` is made.
    pub fn start(folder: &Path, listen: u16, out: u16) -> Proxsmtp {
        fs::create_dir(folder).expect("make its folder");
        let (scan, config) = (folder.join("scan"), folder.join("proxsmtpd.conf"));
        fs::write(&scan, SCAN).expect("write the scanner");
        fs::set_permissions(&scan, fs::Permissions::from_mode(0o755)).expect("make it a program");
        let text = format!(
            "OutAddress: 127.0.0.1:{out}\nListen: 127.0.0.1:{listen}\nFilterCommand: {}\nTempDirectory: {}\n",
            scan.display(),
            folder.display()
        );
        fs::write(&config, text).expect("write its configuration");
        let mut command = Command::new(Self::PROGRAM);
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").args(["-d", "1", "-f"]).arg(&config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let proxy = Proxsmtp(command.spawn().expect("start proxsmtpd"));
        wait_until("the proxy listens", || std::net::TcpStream::connect(("127.0.0.1", listen)).is_ok());
        proxy
    }
}

impl Drop for Proxsmtp {
    fn drop(&mut self) {
        signal(&[self.0.id()], "KILL");
        let _ = self.0.wait();
    }
}
