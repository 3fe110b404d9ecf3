package session

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The commands and keys that a Redis user for this package needs, and no more.
const leastUser = "on >p%40ss:word/ resetkeys resetchannels -@all ~session:* ~lock:* ~person:* ~sid:* ~ended:* ~once:* " +
	"+hello +ping +select +get +set +getrange +setrange +del +exists +pexpire +pttl +time " +
	"+zadd +zrem +zrange +zscore +zcount +zremrangebyscore +evalsha +eval"

// With TLS and a user of one's own, by the URL alone.
func TestTLSAndUser(t *testing.T) {
	cert, key := certificate(t)
	port := freePort(t)
	server := startRedis(t, "--tls-port", fmt.Sprint(port), "--tls-cert-file", cert, "--tls-key-file", key,
		"--tls-ca-cert-file", cert, "--tls-auth-clients", "no")
	redisCLI(t, append([]string{"-e", "-p", fmt.Sprint(server.port), "ACL", "SETUSER", "app"}, strings.Fields(leastUser)...)...)
	redisCLI(t, "-e", "-p", fmt.Sprint(server.port), "ACL", "SETUSER", "default", "off")
	url := fmt.Sprintf("rediss://app:%s@127.0.0.1:%d/0", "p%2540ss:word%2F", port)

	everything(t, open(t, url+"?skip_verify=true", DefaultConfig()))

	for name, url := range map[string]string{
		"an unknown authority": url,
		"a wrong password":     strings.Replace(url, "word", "w0rd", 1) + "?skip_verify=true",
		"no user":              fmt.Sprintf("rediss://127.0.0.1:%d/0?skip_verify=true", port),
	} {
		err := open(t, url, DefaultConfig()).Ping(t.Context())
		if !errors.Is(err, ErrUnavailable) || strings.Contains(err.Error(), "ss:word") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// certificate writes a certificate for 127.0.0.1 that nobody knows.
func certificate(t *testing.T) (cert, key string) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	must(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	must(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600))
	return cert, key
}
