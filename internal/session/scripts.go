package session

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// A session is a hash, session:{tag}:id. It has few fields, for each costs about 50 bytes:
//
//	m  in clear, a space between: version, last seen, absolute end, since, hash of the provider's session ID or "-",
//	   browser and system in words; a version is a number that each save makes one larger, a time is in ms
//	h  the identity record, sealed
//	t  the tokens record, sealed
//	d  a forker's values, sealed
//	x  the lock while it is held: when it ends, a space, who holds it
//
// person:{tag} is a sorted set of a person's session IDs by the time at which each ends if it is not used. That is the
// time at which Redis forgets the session too, so what is past is dead, and what is not past is alive.
//
// Each script is one step for everybody. All keys of one run are in one slot; those of a whole index are made from its
// members, for they can't be known before. The time is always Redis': instances may disagree about it.

const (
	clock = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
`
	// read returns version, seen, end and the rest; nil if there is no such session. pcall: a key of another type is none.
	read = `
local function read(key)
  local m = redis.pcall('HGET', key, 'm')
  if type(m) == 'string' then return string.match(m, '^(%d+) (%d+) (%d+) (.*)$') end
end
`
	// holder returns who holds a session's lock, and until when.
	holder = `
local function holder(key)
  local till, who = string.match(redis.call('HGET', key, 'x') or '', '^(%d+) (.+)$')
  return who, tonumber(till)
end
`
)

// What the first number of a script's answer means.
const (
	gone     = 0 // there is no such session
	done     = 1
	conflict = 2 // not done; what follows is the session as it is
	refused  = 3 // not done, for the lock is another's
)

// startScript writes a new session, and into the index if id is given.
// KEYS session, person · ARGV idle, absolute, id or "", hash of the provider's session ID or "-", words, field, value, …
var startScript = redis.NewScript(clock + `
local life, absolute = math.min(ARGV[1], ARGV[2]), tonumber(ARGV[2])
local m = table.concat({1, now, now + absolute, now, ARGV[4], ARGV[5]}, ' ')
redis.call('HSET', KEYS[1], 'm', m, unpack(ARGV, 6))
redis.call('PEXPIRE', KEYS[1], life)
if ARGV[3] ~= '' then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
  redis.call('ZADD', KEYS[2], now + life, ARGV[3])
  -- A hundred browsers are enough for a person; a program that signs in again and again must not make long lists.
  for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, -101)) do
    redis.call('DEL', string.sub(KEYS[1], 1, -#ARGV[3] - 1) .. id)
    redis.call('ZREM', KEYS[2], id)
  end
  if redis.call('PTTL', KEYS[2]) < absolute then -- the index outlives its last member
    redis.call('PEXPIRE', KEYS[2], absolute)
  end
end
return {1, m}`)

// touchScript extends a session's idle time, unless that was done a moment ago.
// KEYS session, person · ARGV idle, moment, id
var touchScript = redis.NewScript(clock + read + `
local version, seen, absolute, rest = read(KEYS[1])
if not version then return {0} end
if math.abs(now - seen) < tonumber(ARGV[2]) then return {0} end -- abs: a failover may turn the clock back
local life = math.min(ARGV[1], absolute - now)
redis.call('HSET', KEYS[1], 'm', table.concat({version, now, absolute, rest}, ' '))
redis.call('PEXPIRE', KEYS[1], life)
redis.call('ZADD', KEYS[2], 'XX', now + life, ARGV[3])
return {1}`)

// saveScript writes fields, if the session exists, is in the version that was read, and the lock (if one is claimed) is
// still the claimant's. An empty value deletes its field. On a conflict it answers with the session as it is.
// KEYS session · ARGV version, holder or "", field, value, …
var saveScript = redis.NewScript(read + holder + `
local version, seen, absolute, rest = read(KEYS[1])
if not version then return {0} end
if ARGV[2] ~= '' and holder(KEYS[1]) ~= ARGV[2] then return {3} end
if version ~= ARGV[1] then
  return {2, unpack(redis.call('HMGET', KEYS[1], 'm', 'h', 'd', 't'))}
end
for i = 3, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', KEYS[1], ARGV[i])
  else
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
version = version + 1
redis.call('HSET', KEYS[1], 'm', table.concat({version, seen, absolute, rest}, ' '))
return {1, tostring(version)}`)

// endScript deletes a session, and answers with the version and the values that it had at the end.
// KEYS session, person · ARGV id
var endScript = redis.NewScript(read + `
local version = read(KEYS[1])
local values = version and redis.call('HGET', KEYS[1], 'd')
if redis.call('DEL', KEYS[1]) == 0 then return {0} end
redis.call('ZREM', KEYS[2], ARGV[1])
return {1, version or '', values or ''}`)

// endAllScript ends the sessions of an index, except one, and only those with the provider's session ID if that is given.
// KEYS person · ARGV session prefix, id to keep or "", hash of the provider's session ID or ""
var endAllScript = redis.NewScript(read + `
local count = 0
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local key = ARGV[1] .. id
  local version, _, _, rest = read(key)
  if id ~= ARGV[2] and (ARGV[3] == '' or version and string.match(rest, '^%d+ (%S+)') == ARGV[3]) then
    count = count + redis.call('DEL', key)
    redis.call('ZREM', KEYS[1], id)
  end
end
return {1, count}`)

// listScript answers with the sessions of an index, and drops dead members.
// KEYS person · ARGV session prefix
var listScript = redis.NewScript(read + `
local all = {1}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local version, seen, _, rest = read(ARGV[1] .. id)
  if version then
    local since, words = string.match(rest, '^(%d+) %S+ (.*)$')
    all[#all + 1] = {id, since, seen, words}
  else
    redis.call('ZREM', KEYS[1], id)
  end
end
return all`)

// acquireScript takes the lock if it is free, or was free and the answer got lost, and answers with the session as it
// is; else with the time after which it is free at the latest.
// KEYS session · ARGV holder, life
var acquireScript = redis.NewScript(clock + read + holder + `
if not read(KEYS[1]) then return {0} end
local who, till = holder(KEYS[1])
if who and who ~= ARGV[1] and till > now then return {3, till - now} end
redis.call('HSET', KEYS[1], 'x', (now + ARGV[2]) .. ' ' .. ARGV[1])
return {1, unpack(redis.call('HMGET', KEYS[1], 'm', 'h', 'd', 't'))}`)

// renewScript extends the lock, if nobody else has taken it.
// KEYS session · ARGV holder, life
var renewScript = redis.NewScript(clock + holder + `
if holder(KEYS[1]) ~= ARGV[1] then return {3} end
redis.call('HSET', KEYS[1], 'x', (now + ARGV[2]) .. ' ' .. ARGV[1])
return {1}`)

// releaseScript gives the lock up, if nobody else has taken it.
// KEYS session · ARGV holder
var releaseScript = redis.NewScript(holder + `
if holder(KEYS[1]) ~= ARGV[1] then return {3} end
redis.call('HDEL', KEYS[1], 'x')
return {1}`)

// start writes a new session; args are those of the script, after the times.
func (c *conn) start(ctx context.Context, cfg Config, at *place, args ...any) (record, error) {
	args = append([]any{cfg.IdleTimeout.Milliseconds(), cfg.AbsoluteTimeout.Milliseconds()}, args...)
	reply, err := c.run(ctx, patience, "start session", startScript, []string{at.key(), at.person()}, args...)
	if err != nil {
		return record{}, err
	}
	m, _ := reply[1].(string)
	fresh, _ := parseRecord(m)
	return fresh, nil
}

// save runs the script, and returns its code and what follows.
func (c *conn) save(ctx context.Context, at *place, version, holder string, fields ...any) (int64, []any, error) {
	reply, err := c.run(ctx, patience, "save session", saveScript, []string{at.key()}, append([]any{version, holder}, fields...)...)
	if err != nil {
		return 0, nil, err
	}
	return reply[0].(int64), reply[1:], nil
}

// end reports whether there was a session, and which version and sealed values it had.
func (c *conn) end(ctx context.Context, limit time.Duration, at *place) (was bool, version, values string, err error) {
	reply, err := c.run(ctx, limit, "end session", endScript, []string{at.key(), at.person()}, at.id)
	if err != nil || reply[0] != int64(done) {
		return false, "", "", err
	}
	version, _ = reply[1].(string)
	values, _ = reply[2].(string)
	return true, version, values, nil
}

// endAll ends the sessions of a tag, except keep, and only those with the hashed sid if that is given.
func (c *conn) endAll(ctx context.Context, tag, keep, sid string) (int, error) {
	reply, err := c.run(ctx, patience, "end sessions", endAllScript, []string{personKey(tag)}, sessionPrefix(tag), keep, sid)
	if err != nil {
		return 0, err
	}
	count, _ := reply[1].(int64)
	return int(count), nil
}
