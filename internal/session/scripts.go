package session

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// A session is a hash, session:{tag}:id. It has few fields, for each costs about 50 bytes:
//
//	m  in clear, a space between: version, last seen, absolute end, when the sign-in began, hash of the provider's
//	   session ID or "-", count of reasons to ask the provider again, when that was last tried, browser and system in
//	   words; a version is a number that each save makes one larger, a time is in ms
//	h  who is signed in, sealed: a person
//	t  the tokens record, sealed
//	d  a forker's values, sealed
//	x  the lock while it is held: when it ends, a space, who holds it
//
// A session that has ended leaves a mark under its key, a hash with m alone: "ended", or "told" when its browser has been
// told, the letter of a Why, and when, in seconds. See ended.go, also for ended:{tag}.
//
// person:{tag} is a sorted set of a person's session IDs by the time at which each ends if it is not used. That is the
// time at which Redis forgets the session too, so what is past is dead, and what is not past is alive. A person's session
// that is not in it is not believed, for nothing could end it from outside; that is looked at where it costs no command
// more, once a minute.
//
// Each script is one step for everybody. All keys of one run are in one slot; those of a whole index are made from its
// members, for they can't be known before. The time is always Redis': instances may disagree about it. What a script
// needs when memory is full begins with a command that frees some, for Redis refuses only the first write.

const (
	clock = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
`
	// read returns a session's m in parts; nil if there is no such session, and then the mark that it may have left. pcall: a
	// key of another type is none.
	read = `
local function read(key)
  local m, s = redis.pcall('HGET', key, 'm'), {}
  if type(m) ~= 'string' then return end
  s.version, s.seen, s.absolute, s.since, s.sid, s.due, s.tried, s.words =
    string.match(m, '^(%d+) (%d+) (%d+) (%d+) (%S+) (%d+) (%d+) (.*)$')
  if s.version then return s end
  return nil, m
end
local function write(key, s)
  redis.call('HSET', key, 'm', table.concat({s.version, s.seen, s.absolute, s.since, s.sid, s.due, s.tried, s.words}, ' '))
end
`
	// bury ends a session, and leaves the mark: until the session's absolute end, but where its own browser ended it only
	// for as long as requests from before may be under way.
	bury = `
local function bury(key, s, why, now)
  local life = math.max(1, s.absolute - now)
  if why == 'p' then life = math.min(life, 300000) end
  redis.call('DEL', key)
  redis.call('HSET', key, 'm', 'ended ' .. why .. ' ' .. math.floor(now / 1000))
  redis.call('PEXPIRE', key, life)
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
	gone     = 0 // there is no such session; the mark that it may have left follows
	done     = 1
	conflict = 2 // not done; what follows is the session as it is
	refused  = 3 // not done, for the lock is another's, or the sign-in began too early
)

// touchScript extends a session's idle time, unless that was done a moment ago. A person's session that the index does not
// hold is none.
// KEYS session, person · ARGV idle, moment, id, "1" for a person's
var touchScript = redis.NewScript(clock + read + `
local s, mark = read(KEYS[1])
if not s then return {0, mark} end
if ARGV[4] == '1' and type(redis.pcall('ZSCORE', KEYS[2], ARGV[3])) ~= 'string' then return {0} end
if math.abs(now - s.seen) < tonumber(ARGV[2]) then return {2} end -- abs: a failover may turn the clock back
local life = math.min(ARGV[1], s.absolute - now)
redis.call('PEXPIRE', KEYS[1], life)
s.seen = now
write(KEYS[1], s)
redis.call('ZADD', KEYS[2], 'XX', now + life, ARGV[3])
return {1}`)

// startScript writes a new session, and a person's into the index, unless an end from outside came after the sign-in began.
// KEYS session, person, and for a person the marks of such ends ·
// ARGV idle, absolute, when the sign-in began, id, hash of the provider's session ID or "-", words, field, value, …
var startScript = redis.NewScript(clock + read + bury + `
for i = 3, #KEYS do
  local ended = redis.call('GET', KEYS[i])
  if ended and tonumber(ended) > tonumber(ARGV[3]) then return {3} end
end
local life, absolute = math.min(ARGV[1], ARGV[2]), tonumber(ARGV[2])
local since = #KEYS > 2 and ARGV[3] or now
local s = {version = 1, seen = now, absolute = now + absolute, since = since, sid = ARGV[5], due = 0, tried = 0, words = ARGV[6]}
redis.call('HSET', KEYS[1], unpack(ARGV, 7))
write(KEYS[1], s)
redis.call('PEXPIRE', KEYS[1], life)
if #KEYS > 2 then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
  redis.call('ZADD', KEYS[2], now + life, ARGV[4])
  -- A hundred browsers are enough for a person; a program that signs in again and again must not make long lists.
  for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, -101)) do
    local key = string.sub(KEYS[1], 1, -#ARGV[4] - 1) .. id
    local old = read(key)
    if old then bury(key, old, 'o', now) end
    redis.call('ZREM', KEYS[2], id)
  end
  if redis.call('PTTL', KEYS[2]) < absolute then -- the index outlives its last member
    redis.call('PEXPIRE', KEYS[2], absolute)
  end
end
return {1, redis.call('HGET', KEYS[1], 'm')}`)

// saveScript writes fields, if the session exists, is in the version that was read, and the lock (if one is claimed) is
// still the claimant's. An empty value deletes its field. On a conflict it answers with the session as it is.
// KEYS session · ARGV version, holder or "", field, value, …
var saveScript = redis.NewScript(read + holder + `
local s, mark = read(KEYS[1])
if not s then return {0, mark} end
if ARGV[2] ~= '' and holder(KEYS[1]) ~= ARGV[2] then return {3} end
if s.version ~= ARGV[1] then
  return {2, unpack(redis.call('HMGET', KEYS[1], 'm', 'h', 'd', 't'))}
end
if ARGV[2] ~= '' then redis.call('HDEL', KEYS[1], ARGV[3]) end -- what the holder of the lock got is saved if memory is full, too
for i = 3, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', KEYS[1], ARGV[i])
  else
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
s.version = s.version + 1
write(KEYS[1], s)
return {1, tostring(s.version)}`)

// endScript ends a session, and answers with the version and the values that it had, and with the hash of the provider's
// session ID if no other session of the person has the same.
// KEYS session, person · ARGV id, why, session prefix
var endScript = redis.NewScript(clock + read + bury + `
local s, mark = read(KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
if not s then
  if mark and string.match(mark, '^%a+ %a+ %d+$') then return {0} end
  return {redis.call('DEL', KEYS[1]), '', '', '-'} -- nobody can read it
end
local values = redis.call('HGET', KEYS[1], 'd') or ''
bury(KEYS[1], s, ARGV[2], now)
if s.sid ~= '-' then
  for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
    local other = read(ARGV[3] .. id)
    if other and other.sid == s.sid then s.sid = '-' break end
  end
end
return {1, s.version, values, s.sid}`)

// endAllScript ends the sessions of an index, except one, and only those with the provider's session ID, or from before a
// time, if that is given; and leaves a mark, so that no sign-in from before starts one. It answers with the count, and with
// each hash of the provider's session ID that no session has any more, and the ID of a session that had it.
// KEYS person, mark · ARGV session prefix, id to keep or "", hash of the provider's session ID or "", why, before or "",
// life of the mark
var endAllScript = redis.NewScript(clock + read + bury + `
local before, count, dead, alive = tonumber(ARGV[5]), 0, {}, {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local key = ARGV[1] .. id
  local s = read(key)
  if not s then
    if ARGV[3] == '' and id ~= ARGV[2] then count = count + redis.call('DEL', key) end
    redis.call('ZREM', KEYS[1], id)
  elseif id ~= ARGV[2] and (ARGV[3] == '' or s.sid == ARGV[3]) and (not before or tonumber(s.since) < before) then
    bury(key, s, ARGV[4], now)
    redis.call('ZREM', KEYS[1], id)
    count, dead[s.sid] = count + 1, id
  else
    alive[s.sid] = true
  end
end
local mark = math.max(tonumber(redis.call('GET', KEYS[2]) or 0), before or now)
redis.call('DEL', KEYS[2])
redis.call('SET', KEYS[2], mark, 'PX', ARGV[6])
local answer = {1, count}
for sid, id in pairs(dead) do
  if sid ~= '-' and not alive[sid] then
    answer[#answer + 1], answer[#answer + 2] = sid, id
  end
end
return answer`)

// hasSIDScript answers whether a session of an index has the provider's session ID.
// KEYS person · ARGV session prefix, hash of the provider's session ID or "-"
var hasSIDScript = redis.NewScript(read + `
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local s = read(ARGV[1] .. id)
  if s and s.sid == ARGV[2] then return {1} end
end
return {0}`)

// toldScript notes that the browser of an ended session was told, and answers whether it was not told before.
// KEYS session
var toldScript = redis.NewScript(`
local rest = string.match(redis.call('HGET', KEYS[1], 'm') or '', '^ended( %a+ %d+)$')
if not rest then return {0} end
redis.call('HSET', KEYS[1], 'm', 'told' .. rest)
return {1}`)

// dueScript gives each session of an index a reason to ask the provider again, and answers with how many there are.
// KEYS person · ARGV session prefix
var dueScript = redis.NewScript(read + `
local count = 0
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local s = read(ARGV[1] .. id)
  if s then
    redis.call('HDEL', ARGV[1] .. id, 'm')
    s.due, s.tried, count = (s.due + 1) % 4294967296, 0, count + 1
    write(ARGV[1] .. id, s)
  end
end
return {1, count}`)

// listScript answers with the sessions of an index, and drops dead members.
// KEYS person · ARGV session prefix
var listScript = redis.NewScript(read + `
local all = {1}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local s = read(ARGV[1] .. id)
  if s then
    all[#all + 1] = {id, s.since, s.seen, s.words}
  else
    redis.call('ZREM', KEYS[1], id)
  end
end
return all`)

// acquireScript takes the lock if it is free, or was free and the answer got lost, and answers with the session as it is;
// else with the time after which it is free at the latest. With a pause it also refuses if it was taken with one within
// that time.
// KEYS session · ARGV holder, life, pause or 0
var acquireScript = redis.NewScript(clock + read + holder + `
local s, mark = read(KEYS[1])
if not s then return {0, mark} end
local who, till = holder(KEYS[1])
if who and who ~= ARGV[1] and till > now then return {3, till - now} end
if ARGV[3] ~= '0' then
  local since = math.abs(now - s.tried) -- abs: a failover may turn the clock back
  if since < tonumber(ARGV[3]) then return {3, ARGV[3] - since} end
  s.tried = now
end
redis.call('HDEL', KEYS[1], 'x')
write(KEYS[1], s)
redis.call('HSET', KEYS[1], 'x', (now + ARGV[2]) .. ' ' .. ARGV[1])
return {1, unpack(redis.call('HMGET', KEYS[1], 'm', 'h', 'd', 't'))}`)

// renewScript extends the lock, if nobody else has taken it.
// KEYS session · ARGV holder, life
var renewScript = redis.NewScript(clock + holder + `
if holder(KEYS[1]) ~= ARGV[1] then return {3} end
redis.call('HDEL', KEYS[1], 'x')
redis.call('HSET', KEYS[1], 'x', (now + ARGV[2]) .. ' ' .. ARGV[1])
return {1}`)

// releaseScript gives the lock up, if nobody else has taken it.
// KEYS session · ARGV holder
var releaseScript = redis.NewScript(holder + `
if holder(KEYS[1]) ~= ARGV[1] then return {3} end
redis.call('HDEL', KEYS[1], 'x')
return {1}`)

// start writes a new session; args are those of the script, after the times.
func (c *conn) start(ctx context.Context, cfg Config, at *place, marks []string, args ...any) (record, error) {
	keys := append([]string{at.key(), at.person()}, marks...)
	args = append([]any{cfg.IdleTimeout.Milliseconds(), cfg.AbsoluteTimeout.Milliseconds()}, args...)
	reply, err := c.run(ctx, patience, "start session", startScript, keys, args...)
	if err != nil {
		return record{}, err
	}
	if reply[0] == int64(refused) {
		return record{}, errOvertaken
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

// end ends a session, and reports whether there was one, and which version and sealed values it had.
func (c *conn) end(ctx context.Context, limit time.Duration, at *place, why Why) (was bool, version, values string, err error) {
	reply, err := c.run(ctx, limit, "end session", endScript, []string{at.key(), at.person()}, at.id, why.letter(), sessionPrefix(at.tag))
	if err != nil || reply[0] != int64(done) {
		return false, "", "", err
	}
	version, _ = reply[1].(string)
	values, _ = reply[2].(string)
	if sid, _ := reply[3].(string); sid != "-" {
		c.dropSID(ctx, sid, at.tag, at.id)
	}
	return true, version, values, nil
}
