"""A Sigstore of a test: authority, certificate log and transparency log with keys of their own, and no server.

instance = LocalSigstore()
instance.sign(model_root, "ada@example.org", "https://accounts.example.org")   # writes model.sig
instance.write_trust_config(path)                                              # RESUNET_SIGSTORE_TRUST_CONFIG

What it writes is what the real services write: a short-lived certificate with the log's timestamp in it, and an entry
of a log of one entry with its promise, proof and checkpoint. All of it is verified by sigstore's own code.
"""

import base64
import hashlib
import json
import struct
from datetime import timedelta
from pathlib import Path
from typing import Any

from authority import now
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from registry.signing import SIGNATURE_FILE, keygen, sign

_ISSUER = ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
_TIMESTAMPS = ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
_LIFE = timedelta(minutes=10)
Key = ec.EllipticCurvePrivateKey


def _b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _der(key: Key) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _id(key: Key) -> bytes:
    return hashlib.sha256(_der(key)).digest()


def _signed(key: Key, content: bytes) -> bytes:
    return key.sign(content, ec.ECDSA(hashes.SHA256()))


def _canonical(content: object) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


class LocalSigstore:
    """One instance, with all its keys."""

    def __init__(self) -> None:
        self._authority_key, self._certificate_log, self._log = (ec.generate_private_key(ec.SECP256R1()) for _ in "123")
        self._authority = self._self_signed()

    def write_trust_config(self, path: Path, url: str = "http://127.0.0.1:1") -> Path:
        """Write what a client needs to know of the instance; `url` is where its services would be."""
        service = [{"url": url, "majorApiVersion": 1, "operator": "test", "validFor": _since()}]
        authority = {
            "subject": {"organization": "test", "commonName": "test"},
            "certChain": {"certificates": [{"rawBytes": _b64(self._authority.public_bytes(Encoding.DER))}]},
            "validFor": _since(),
        }
        config = {
            "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
            "trustedRoot": {
                "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
                "tlogs": [_log_instance(self._log, url)],
                "ctlogs": [_log_instance(self._certificate_log, url)],
                "certificateAuthorities": [authority],
                "timestampAuthorities": [],
            },
            "signingConfig": {
                "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
                "caUrls": service,
                "oidcUrls": service,
                "rekorTlogUrls": service,
                "rekorTlogConfig": {"selector": "ANY"},
                "tsaUrls": [],
                "tsaConfig": {"selector": "ANY"},
            },
        }
        path.write_text(json.dumps(config), encoding="utf-8")
        return path

    def sign(self, root: Path, identity: str, issuer: str) -> None:
        """Sign a model's folder as somebody for whom an issuer vouched."""
        private, _ = keygen(root.parent / f"keys {x509.random_serial_number()}")
        bundle = json.loads(sign(root, private).read_bytes())  # for the statement that is signed
        kind, payload = bundle["dsseEnvelope"]["payloadType"], base64.b64decode(bundle["dsseEnvelope"]["payload"])
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._certificate(key, identity, issuer)
        signature = _signed(key, f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload)
        bundle["dsseEnvelope"]["signatures"] = [{"sig": _b64(signature), "keyid": ""}]
        bundle["verificationMaterial"] = {
            "certificate": {"rawBytes": _b64(certificate.public_bytes(Encoding.DER))},
            "tlogEntries": [self._entry(payload, signature, certificate)],
            "timestampVerificationData": {"rfc3161Timestamps": []},
        }
        (root / SIGNATURE_FILE).write_text(json.dumps(bundle), encoding="utf-8")

    def _self_signed(self) -> x509.Certificate:
        key, name = self._authority_key, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
        usage = dict.fromkeys(_USAGES, False) | {"key_cert_sign": True, "crl_sign": True}
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now() - timedelta(days=1))
            .not_valid_after(now() + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.KeyUsage(**usage), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )

    def _certificate(self, key: Key, identity: str, issuer: str) -> x509.Certificate:
        """A certificate of some minutes, with the certificate log's word that it was seen there."""
        usage = dict.fromkeys(_USAGES, False) | {"digital_signature": True}
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self._authority.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now() - _LIFE)
            .not_valid_after(now() + _LIFE)
            .add_extension(x509.KeyUsage(**usage), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(identity)]), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._authority_key.public_key()), critical=False
            )
            .add_extension(x509.UnrecognizedExtension(_ISSUER, issuer.encode()), critical=False)
        )
        before = builder.sign(self._authority_key, hashes.SHA256()).tbs_certificate_bytes
        moment = int(now().timestamp() * 1000)
        # RFC 6962, 3.2: version, type, time, entry type (precertificate), issuer's key, certificate, no extensions.
        seen = struct.pack("!BBQH", 0, 0, moment, 1) + _id(self._authority_key)
        seen += len(before).to_bytes(3, "big") + before + struct.pack("!H", 0)
        signature = _signed(self._certificate_log, seen)
        timestamp = struct.pack("!B32sQH", 0, _id(self._certificate_log), moment, 0)
        timestamp += struct.pack("!BBH", 4, 3, len(signature)) + signature  # SHA-256, ECDSA
        listed = struct.pack("!HH", len(timestamp) + 2, len(timestamp)) + timestamp
        octets = _octet_string(listed)
        return builder.add_extension(x509.UnrecognizedExtension(_TIMESTAMPS, octets), critical=False).sign(
            self._authority_key, hashes.SHA256()
        )

    def _entry(self, payload: bytes, signature: bytes, certificate: x509.Certificate) -> dict[str, Any]:
        """The entry of a log that holds nothing else."""
        digest = hashlib.sha256(payload).hexdigest()
        spec = {
            "envelopeHash": {"algorithm": "sha256", "value": digest},
            "payloadHash": {"algorithm": "sha256", "value": digest},
            "signatures": [
                {"signature": _b64(signature), "verifier": _b64(certificate.public_bytes(Encoding.PEM))},
            ],
        }
        body = _canonical({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec})
        moment, root = int(now().timestamp()), hashlib.sha256(b"\0" + body).digest()
        promised = {
            "body": _b64(body),
            "integratedTime": moment,
            "logID": _id(self._log).hex(),
            "logIndex": 0,
        }
        note = f"test\n1\n{_b64(root)}\n"
        checkpoint = f"{note}\n— test {_b64(_id(self._log)[:4] + _signed(self._log, note.encode()))}\n"
        return {
            "logIndex": "0",
            "logId": {"keyId": _b64(_id(self._log))},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": str(moment),
            "inclusionPromise": {"signedEntryTimestamp": _b64(_signed(self._log, _canonical(promised)))},
            "inclusionProof": {
                "logIndex": "0",
                "rootHash": _b64(root),
                "treeSize": "1",
                "hashes": [],
                "checkpoint": {"envelope": checkpoint},
            },
            "canonicalizedBody": _b64(body),
        }


_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def _since() -> dict[str, str]:
    return {"start": (now() - timedelta(days=1)).isoformat().replace("+00:00", "Z")}


def _log_instance(key: Key, url: str) -> dict[str, Any]:
    public = {"rawBytes": _b64(_der(key)), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": _since()}
    return {"baseUrl": url, "hashAlgorithm": "SHA2_256", "publicKey": public, "logId": {"keyId": _b64(_id(key))}}


def _octet_string(content: bytes) -> bytes:
    """DER of an OCTET STRING of less than 256 bytes."""
    length = bytes([len(content)]) if len(content) < 128 else bytes([0x81, len(content)])
    return b"\x04" + length + content
