package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
)

var errNoSecret = errors.New("read the Management API's secret")

// explain adds to a failure what to do about it, in the same line.
func explain(err error) error {
	const (
		logs  = "`docker compose logs logto` says why; then run `docker compose up` again"
		again = "`docker compose up` goes on where it stopped"
		fresh = "`docker compose down -v` forgets everything, and `docker compose up` starts afresh"
	)
	advice := ""
	refused, isRefusal := errors.AsType[*refusal](err)
	_, isNetwork := errors.AsType[*url.Error](err)
	switch {
	case errors.Is(err, context.Canceled):
		advice = again
	case isRefusal && (strings.HasSuffix(refused.call, "/oidc/token") || refused.status == http.StatusUnauthorized):
		advice = "the secret is not that of this Logto's database: " + fresh
	case isRefusal && refused.status == http.StatusNotFound:
		advice = "this Logto is of another version than the one in docker-compose.yml: go back to that"
	case isRefusal && refused.status < http.StatusInternalServerError:
		advice = "something made by hand is in the way: rename or delete it in Logto, or " + fresh
	case isRefusal || isNetwork:
		advice = logs
	case errors.Is(err, errNoSecret) && errors.Is(err, fs.ErrNotExist):
		advice = "`docker compose up` writes it"
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission):
		advice = "the volumes are not as docker-compose.yml makes them: " + fresh
	default:
		return err
	}
	return fmt.Errorf("%w: %s", err, advice)
}
