//! Certificates for gateways of tests, of an authority of their own.

use std::fs;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PublicKeyData, SerialNumber};

/// An authority, and a directory with what it has signed.
pub struct Authority {
    pub directory: tempfile::TempDir,
    pub issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("ca.pem"), issuer.pem()).expect("written");
        Authority { directory, issuer }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Writes a certificate for 127.0.0.1 with this serial number, and its key. The public one, as the certificate has it
    /// (SubjectPublicKeyInfo, DER), comes back.
    pub fn issue(&self, serial: u64, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
        params.distinguished_name.push(DnType::CommonName, "gateway");
        params.serial_number = Some(SerialNumber::from(serial));
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        fs::write(self.path("certificate.pem"), certificate.pem()).expect("written");
        fs::write(self.path("key.pem"), key.serialize_pem()).expect("written");
        key.subject_public_key_info()
    }

    /// What makes a gateway show it.
    pub fn settings(&self) -> [String; 2] {
        let named = |key: &str, file: &str| format!("tls.{key}={}", self.text(file));
        [named("certificate", "certificate.pem"), named("key", "key.pem")]
    }
}
