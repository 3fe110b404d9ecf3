package routes

import (
	"context"
	"math"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
)

// limitTimeout bounds the wait for Redis to count a request.
const limitTimeout = 500 * time.Millisecond

// throttle refuses a client's address that has sent more requests than RATE_LIMIT allows, over all instances. Without
// Redis there is no limit: what needs Redis says so by itself.
func (app App) throttle(c *gin.Context) {
	address := app.clientAddress(c)
	if app.Limit.IsZero() || !address.IsValid() {
		return
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), limitTimeout)
	defer cancel()
	result, err := app.Limiter.Allow(ctx, address.String(), app.Limit)
	if err != nil || result.Allowed > 0 {
		return
	}
	app.Observe(c.Request.Context(), ObservedLimit, "", 1)
	c.Header("Retry-After", strconv.Itoa(int(math.Ceil(result.RetryAfter.Seconds()))))
	app.stop(c, &statusError{http.StatusTooManyRequests, "too_many"})
}

// clientAddress returns the address of the request's client; for IPv6 its /64, of which one client has all addresses. It
// returns none where the address may be a proxy's, which many people share: if BASE_URL is https and no proxy is trusted,
// if a private address that is no trusted proxy sends X-Forwarded-For, and if the address is a trusted proxy's own.
func (app App) clientAddress(c *gin.Context) netip.Prefix {
	address := parseAddress(c.ClientIP())
	peer := parseAddress(c.RemoteIP())
	isUnknown := c.GetHeader("X-Forwarded-For") != "" && !app.Trusts(c.Request) && (peer.IsPrivate() || peer.IsLoopback())
	switch {
	case isUnknown:
		app.warnOnce("a proxy is not in TRUSTED_PROXIES: RATE_LIMIT does not count what comes through it", peer)
	case !app.secure() && c.GetHeader("X-Forwarded-Proto") == "https" && app.Trusts(c.Request):
		app.warnOnce("a proxy speaks https with browsers, and BASE_URL does not begin with https:", peer)
	}
	if isUnknown || app.isProxy(address) || app.secure() && len(app.Proxies) == 0 || !address.IsValid() {
		return netip.Prefix{}
	}
	bits := 64
	if address.Is4() {
		bits = 32
	}
	network, _ := address.Prefix(bits) // valid, by what is above
	return network
}

// warnOnce tells the operator what is wrong with the settings, at the first request that shows it.
func (app App) warnOnce(fault string, proxy netip.Addr) {
	if _, told := app.faults.LoadOrStore(fault, true); !told {
		app.Log.Warn(fault, "proxy", proxy)
	}
}

// Trusts reports whether a request comes from a trusted proxy, so that what it says of the client and of its trace counts.
func (app App) Trusts(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && app.isProxy(peer.Addr().Unmap().WithZone(""))
}

// isProxy reports whether an address is a trusted proxy's.
func (app App) isProxy(address netip.Addr) bool {
	return slices.ContainsFunc(app.Proxies, func(network netip.Prefix) bool { return network.Contains(address) })
}

// parseAddress returns no address for what is none.
func parseAddress(text string) netip.Addr {
	address, _ := netip.ParseAddr(text)
	return address.Unmap().WithZone("")
}

// trustProxies lets Gin's ClientIP believe X-Forwarded-For as far as trusted proxies wrote it. By default it believes everybody.
func (app App) trustProxies(r *gin.Engine) {
	networks := make([]string, len(app.Proxies))
	for i, network := range app.Proxies {
		networks[i] = network.String()
	}
	r.RemoteIPHeaders = []string{"X-Forwarded-For"}
	_ = r.SetTrustedProxies(networks) // each was parsed
}
