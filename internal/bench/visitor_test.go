//go:build linux

package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// A visit is one request, or all those of a sign-in. It checks what it gets.
type visit func() error

// cost is one measure: how many visits, and who makes them at once.
type cost struct {
	visits   int
	visitors []visit
}

// spends returns the CPU time that the program takes for each visit.
func (p *program) spends(c cost) time.Duration {
	p.t.Helper()
	each := max(1, c.visits/len(c.visitors))
	before := p.cpu()
	var all errgroup.Group
	for _, visit := range c.visitors {
		all.Go(func() error {
			for range each {
				if err := visit(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		p.t.Fatalf("%v; the log ends with\n%s", err, p.log)
	}
	return (p.cpu() - before) / time.Duration(each*len(c.visitors))
}

const (
	asHTML = "text/html,application/xhtml+xml,*/*;q=0.8"
	asJSON = "application/json"
)

// request is one as browsers send it. Its cookies may be empty.
func (p *program) request(path, accept, cookies string) []byte {
	if cookies != "" {
		cookies = "Cookie: " + cookies + "\r\n"
	}
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: %s\r\nAccept-Language: en-GB,en;q=0.9\r\n%s\r\n",
		path, strings.TrimPrefix(p.url, "http://"), accept, cookies)
}

// visitors returns n who send one of the requests again and again, over a connection each.
func (p *program) visitors(n int, requests ...[]byte) []visit {
	p.t.Helper()
	all := make([]visit, n)
	for i := range all {
		length, line := 0, line{p: p} // all answers must have the length of the first one
		all[i] = func() error {
			body, err := line.ask(requests[rand.IntN(len(requests))])
			before, rest, _ := bytes.Cut(body, []byte("<time")) // which says how long ago the sign-in was
			_, after, _ := bytes.Cut(rest, []byte("</time>"))
			got := len(before) + len(after)
			if length == 0 {
				length = got
			}
			if err == nil && got != length {
				err = fmt.Errorf("an answer of %d bytes, after one of %d: %.300s", got, length, body)
			}
			return err
		}
	}
	return all
}

// line is a connection that is opened by its first request, and stays open: one that sent none would be closed soon.
type line struct {
	p       *program
	conn    net.Conn
	answers *bufio.Reader
}

func (l *line) ask(request []byte) (body []byte, err error) {
	if l.conn == nil {
		l.conn, err = net.Dial("tcp", strings.TrimPrefix(l.p.url, "http://"))
		if err != nil {
			return nil, err
		}
		l.p.t.Cleanup(func() { _ = l.conn.Close() })
		l.answers = bufio.NewReader(l.conn)
	}
	if _, err := l.conn.Write(request); err != nil {
		return nil, err
	}
	response, err := http.ReadResponse(l.answers, nil)
	if err != nil {
		return nil, err
	}
	body, err = io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.300s", response.Status, body)
	}
	return body, err
}

// signIns returns n visitors who sign in again and again, each time as the next person in a new browser.
func (s *surroundings) signIns(p *program, n int) []visit {
	transport := &http.Transport{MaxIdleConnsPerHost: n}
	s.t.Cleanup(transport.CloseIdleConnections)
	var next atomic.Int64
	all := make([]visit, n)
	for i := range all {
		all[i] = func() error {
			_, err := s.signsIn(p, transport, person(next.Add(1)%people))
			return err
		}
	}
	return all
}

// signIn signs ada in, and returns her browser's cookies.
func (s *surroundings) signIn(p *program) (cookies string) {
	s.t.Helper()
	cookies, err := s.signsIn(p, http.DefaultTransport, "ada")
	must(s.t, err)
	return cookies
}

// signsIn signs somebody in by four requests of a new browser: home, sign-in, callback, home.
func (s *surroundings) signsIn(p *program, transport http.RoundTripper, username string) (cookies string, err error) {
	jar, _ := cookiejar.New(nil) // without options nothing can be wrong
	client := &http.Client{Transport: transport, Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	get := func(address string, status int) (location, body string, err error) {
		request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, address, nil)
		if err != nil {
			return "", "", err
		}
		request.Header.Set("Accept", asHTML)
		response, err := client.Do(request)
		if err != nil {
			return "", "", err
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err == nil && response.StatusCode != status {
			err = fmt.Errorf("GET %s: %s: %.300s", request.URL.Path, response.Status, text)
		}
		return response.Header.Get("Location"), string(text), err
	}
	if _, _, err := get(p.url+"/", http.StatusOK); err != nil {
		return "", err
	}
	authorization, _, err := get(p.url+"/sign-in", http.StatusSeeOther)
	if err != nil {
		return "", err
	}
	callback, err := s.logto.SignIn(s.t.Context(), authorization, username)
	if err != nil {
		return "", err
	}
	if _, _, err := get(callback, http.StatusSeeOther); err != nil {
		return "", err
	}
	_, page, err := get(p.url+"/", http.StatusOK)
	if err == nil && !strings.Contains(page, s.logto.User(username).Name) {
		err = errors.New("the sign-in signed nobody in")
	}
	address, _ := url.Parse(p.url) // we made it
	var pairs []string
	for _, cookie := range jar.Cookies(address) {
		pairs = append(pairs, cookie.Name+"="+cookie.Value)
	}
	return strings.Join(pairs, "; "), err
}
