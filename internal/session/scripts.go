package session

import (
	_ "embed"
	"strings"

	"github.com/redis/go-redis/v9"
)

//go:embed scripts.lua
var lua string

// scripts are those of scripts.lua by name. Each begins with what stands before the first.
var scripts = func() map[string]*redis.Script {
	parts, all := strings.Split(lua, "\n-- name: "), make(map[string]*redis.Script)
	for _, part := range parts[1:] {
		name, text, _ := strings.Cut(part, "\n")
		all[strings.TrimSpace(name)] = redis.NewScript(parts[0] + "\n" + text)
	}
	return all
}()

// What the first number of a script's answer means.
const (
	gone     = int64(0) // there is no such session; the mark that it may have left follows
	done     = int64(1)
	conflict = int64(2) // not done; what follows is the session as it is
	refused  = int64(3) // not done, for the lock is another's, or the sign-in began too early
)
