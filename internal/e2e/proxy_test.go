//go:build unix

package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"example.com/logto-gin-starter/auth/authtest"
)

var rollingSize = flag.Int("rolling", 5000, "TestRollingRestart: how many requests at least")

// behindProxy is two instances behind one of the proxies of deploy/proxy.
type behindProxy struct {
	site      site // as people meet it
	client    *http.Client
	instances [2]*instance
}

// proxies start those of deploy/proxy, changed in nothing but addresses and files.
var proxies = map[string]func(t *testing.T, dir, port string, instances [2]string) *exec.Cmd{
	"caddy": func(t *testing.T, dir, port string, instances [2]string) *exec.Cmd {
		program := need(t, "caddy")
		path := recipe(t, dir, "Caddyfile", "	admin off\n", "	admin off\n	default_bind 127.0.0.1\n")
		_, plain, _ := net.SplitHostPort(freeAddress(t))
		caddy := exec.Command(program, "run", "--adapter", "caddyfile", "--config", path)
		caddy.Env = []string{"HOME=" + dir, "HTTP_PORT=" + plain, "HTTPS_PORT=" + port, "INSTANCES=" + instances[0] + " " + instances[1]}
		return caddy
	},
	"nginx": func(t *testing.T, dir, port string, instances [2]string) *exec.Cmd {
		program := need(t, "nginx")
		certificate := httptest.NewUnstartedServer(nil)
		certificate.StartTLS()
		certificate.Close()
		certificateFile, keyFile := writeCertificate(t, dir, certificate.TLS.Certificates[0])
		path := recipe(t, dir, "nginx.conf", "127.0.0.1:3001", instances[0], "127.0.0.1:3002", instances[1],
			"listen 80", "listen "+freeAddress(t), "listen 443", "listen 127.0.0.1:"+port, "/run/nginx.pid", filepath.Join(dir, "pid"),
			"/etc/ssl/www.example.com.pem", certificateFile, "/etc/ssl/www.example.com.key", keyFile, "worker_processes auto", "worker_processes 2",
			"events {}", "events {}\ndaemon off;")
		return exec.Command(program, "-p", dir, "-c", path)
	},
}

// recipe writes a file of deploy/proxy with each old text, which must be there, replaced by a new one.
func recipe(t *testing.T, dir, name string, pairs ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "deploy", "proxy", name))
	must(t, err)
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(string(data), pairs[i]) {
			t.Fatalf("%s has no %q", name, pairs[i])
		}
	}
	path := filepath.Join(dir, name)
	must(t, os.WriteFile(path, []byte(strings.NewReplacer(pairs...).Replace(string(data))), 0o600))
	return path
}

func newBehindProxy(t *testing.T, proxy string) *behindProxy {
	t.Helper()
	heavy(t)
	_, port, _ := net.SplitHostPort(freeAddress(t))
	addresses := [2]string{freeAddress(t), freeAddress(t)}
	dir := t.TempDir()
	command := proxies[proxy](t, dir, port, addresses) // first, for it may be missing
	b := &behindProxy{site: site{url: "https://localhost:" + port}}
	var options authtest.Options
	b.site.logto, options = newLogto(t, b.site.url, func(options *authtest.Options) {
		for i := range options.Users {
			options.Users[i].Picture = "" // a picture over http is no picture in a page over https
		}
	})
	b.site.provider = b.site.logto.URL
	redis := newRedis(t)
	for i, address := range addresses {
		environ := append(settings(b.site.url, address, redis.url(), b.site.logto, options), "TRUSTED_PROXIES=127.0.0.1", "RATE_LIMIT=60/m", "SHUTDOWN_DELAY=5s")
		b.instances[i] = startInstance(t, address, environ)
	}
	endWithTest(command)
	var output strings.Builder
	command.Stdout, command.Stderr = &output, &output
	must(t, command.Start())
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM) // nginx's own processes end with it only so
		_ = command.Wait()
		if t.Failed() {
			t.Logf("what %s wrote, at the end:\n%s", proxy, tail(output.String(), 3000))
		}
	})
	transport := &http.Transport{MaxIdleConnsPerHost: 256, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // its authority is its own
	t.Cleanup(transport.CloseIdleConnections)
	b.client = newClient(transport)
	eventually(t, "the proxy serves", func() bool {
		response, err := b.client.Get(b.site.url + "/readyz")
		if err != nil {
			return false
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
	return b
}

// TestProxySignIn: the recipes lead a browser to a signed-in page, with cookies that only https sees.
func TestProxySignIn(t *testing.T) {
	for proxy := range proxies {
		t.Run(proxy, func(t *testing.T) {
			b := newBehindProxy(t, proxy)
			tab := newBrowser(t, startChromium(t, chromedp.Flag("ignore-certificate-errors", true)), &b.site, desktop)
			tab.signIn("ada")
			tab.open("/protected/sessions")
			ada := &person{b.site.url, b.client, b.site.logto.Browser()}
			must(t, ada.signIn(t.Context(), "ada"))
			u, err := url.Parse(b.site.url)
			must(t, err)
			isSession := func(cookie *http.Cookie) bool { return cookie.Name == "__Host-sid" }
			if !slices.ContainsFunc(b.client.Jar.Cookies(u), isSession) {
				t.Errorf("cookies %v", b.client.Jar.Cookies(u))
			}
		})
	}
}

// TestRollingRestart: while both instances are replaced one after the other, no request is lost. nginx can't ask /readyz, so that
// it meets the moment in which a port closes; what is safe to repeat it sends to the other instance, but a POST it may answer with
// 502, as its recipe says.
func TestRollingRestart(t *testing.T) {
	for proxy := range proxies {
		t.Run(proxy, func(t *testing.T) {
			b := newBehindProxy(t, proxy)
			ada := &person{b.site.url, b.client, b.site.logto.Browser()}
			must(t, ada.signIn(t.Context(), "ada"))
			var sent, lost, refused atomic.Int64
			restarted := make(chan struct{})
			go func() {
				defer close(restarted)
				for i, old := range b.instances {
					time.Sleep(time.Second) // of load
					old.terminate()
					<-old.ended
					b.instances[i] = startInstance(t, strings.TrimPrefix(old.url, "http://"), old.environ)
					time.Sleep(2 * time.Second) // an orchestrator waits until the new one is ready, and its proxy knows
				}
			}()
			parallel(16, 16, func(int) {
				for done := false; !done || sent.Load() < int64(*rollingSize); {
					var a answer
					var err error
					n := sent.Add(1)
					isPost := n%10 == 0
					if isPost { // no proxy may send this twice
						a, err = ada.post(t.Context(), "/backchannel-logout", url.Values{})
					} else {
						a, err = ada.getJSON(t.Context(), "/protected/sessions")
					}
					if want := map[bool]int{true: 400, false: 200}[isPost]; err == nil && isPost && proxy == "nginx" && a.status == http.StatusBadGateway {
						refused.Add(1)
					} else if err != nil || a.status != want {
						if lost.Add(1) < 5 {
							t.Errorf("request %d: %d %.200s, %v", n, a.status, a.body, err)
						}
					}
					select {
					case <-restarted:
						done = true
					default:
					}
				}
			})
			<-restarted
			t.Logf("%d requests, %d lost, %d POSTs answered with 502", sent.Load(), lost.Load(), refused.Load())
			if refused.Load() > 16 { // each of the senders, once
				t.Error("that is more than the moment in which a port closes")
			}
		})
	}
}

func writeCertificate(t *testing.T, dir string, certificate tls.Certificate) (certificateFile, keyFile string) {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	must(t, err)
	certificateFile, keyFile = filepath.Join(dir, "certificate.pem"), filepath.Join(dir, "key.pem")
	must(t, os.WriteFile(certificateFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]}), 0o600))
	must(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600))
	return certificateFile, keyFile
}
