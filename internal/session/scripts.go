package session

import "github.com/redis/go-redis/v9"

// A session is a hash, session:{tag}:id, of:
//
//	v  version, one more at each save         h  the identity record, sealed
//	s  last seen, in ms                       d  a forker's values, sealed
//	c  since, in ms                           t  the tokens record, sealed
//	e  absolute end, in ms                    f  fence: how often the lock was taken
//	a  browser and system, in words           x  end of the lock that is held, in ms
//	o  hash of the provider's session ID
//
// person:{tag} is a sorted set of a person's session IDs by the time at which each ends if it is not used. That is the
// time at which Redis forgets the session too, so what is past is dead, and what is not past is alive.
//
// Each script is one step for everybody. All keys of one run are in one slot; those of a whole index are made from its
// members, for they can't be known before. The time is always Redis': instances may disagree about it.

// clock is the beginning of scripts that tell the time.
const clock = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
`

// What the first number of a script's answer means.
const (
	gone     = 0 // there is no such session
	done     = 1
	conflict = 2 // not done; what follows is the session as it is
	refused  = 3 // not done, for the lock is another's
)

// startScript writes a new session, and into the index if id is given.
// KEYS session, person · ARGV idle, absolute, id or "", field, value, …
var startScript = redis.NewScript(clock + `
local life, absolute = math.min(ARGV[1], ARGV[2]), tonumber(ARGV[2])
redis.call('HSET', KEYS[1], 'v', 1, 's', now, 'c', now, 'e', now + absolute, unpack(ARGV, 4))
redis.call('PEXPIRE', KEYS[1], life)
if ARGV[3] ~= '' then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
  redis.call('ZADD', KEYS[2], now + life, ARGV[3])
  if redis.call('PTTL', KEYS[2]) < absolute then -- the index outlives its last member
    redis.call('PEXPIRE', KEYS[2], absolute)
  end
end
return {1, now, now + absolute}`)

// touchScript extends a session's idle time, unless that was done a moment ago.
// KEYS session, person · ARGV idle, moment, id
var touchScript = redis.NewScript(clock + `
local seen = redis.call('HMGET', KEYS[1], 's', 'e')
if not seen[2] then return {0} end
if math.abs(now - seen[1]) < tonumber(ARGV[2]) then return {0} end -- abs: a failover may turn the clock back
local life = math.min(ARGV[1], seen[2] - now)
redis.call('HSET', KEYS[1], 's', now)
redis.call('PEXPIRE', KEYS[1], life)
redis.call('ZADD', KEYS[2], 'XX', now + life, ARGV[3])
return {1, now}`)

// saveScript writes fields, if the session exists, is in the version that was read, and the lock (if one is claimed) was not
// taken by another since. An empty value deletes its field. On a conflict it answers with the session as it is.
// KEYS session · ARGV version, fence or "", field, value, …
var saveScript = redis.NewScript(`
local is = redis.call('HMGET', KEYS[1], 'v', 'f')
if not is[1] then return {0} end
if ARGV[2] ~= '' and is[2] ~= ARGV[2] then return {3} end
if is[1] ~= ARGV[1] then
  return {2, unpack(redis.call('HMGET', KEYS[1], 'v', 'e', 's', 'h', 'd', 't'))}
end
for i = 3, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', KEYS[1], ARGV[i])
  else
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
return {1, redis.call('HINCRBY', KEYS[1], 'v', 1)}`)

// endScript deletes a session, and answers with the version and the values that it had at the end.
// KEYS session, person · ARGV id
var endScript = redis.NewScript(`
local was = redis.pcall('HMGET', KEYS[1], 'v', 'd') -- pcall: even what is no hash can be ended
if redis.call('DEL', KEYS[1]) == 0 then return {0} end
redis.call('ZREM', KEYS[2], ARGV[1])
return {1, was[1], was[2]}`)

// endAllScript ends the sessions of an index, except one, and only those with the provider's session ID if that is given.
// KEYS person · ARGV session prefix, id to keep or "", hash of the provider's session ID or ""
var endAllScript = redis.NewScript(`
local count = 0
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local key = ARGV[1] .. id
  if id ~= ARGV[2] and (ARGV[3] == '' or redis.call('HGET', key, 'o') == ARGV[3]) then
    count = count + redis.call('DEL', key)
    redis.call('ZREM', KEYS[1], id)
  end
end
return {1, count}`)

// listScript answers with the sessions of an index, and drops dead members.
// KEYS person · ARGV session prefix
var listScript = redis.NewScript(`
local all = {1}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local is = redis.call('HMGET', ARGV[1] .. id, 'a', 'c', 's')
  if is[2] then
    all[#all + 1] = {id, is[1] or '', is[2], is[3]}
  else
    redis.call('ZREM', KEYS[1], id)
  end
end
return all`)

// acquireScript takes the lock if it is free, and answers with the fence and the session as it is; else with the time after
// which it is free at the latest.
// KEYS session · ARGV life
var acquireScript = redis.NewScript(clock + `
local is = redis.call('HMGET', KEYS[1], 'v', 'x')
if not is[1] then return {0} end
if is[2] and tonumber(is[2]) > now then return {3, is[2] - now} end
redis.call('HSET', KEYS[1], 'x', now + ARGV[1])
local fence = redis.call('HINCRBY', KEYS[1], 'f', 1)
return {1, fence, unpack(redis.call('HMGET', KEYS[1], 'v', 'e', 's', 'h', 'd', 't'))}`)

// renewScript extends the lock, if it was not given up and nobody else has taken it.
// KEYS session · ARGV fence, life
var renewScript = redis.NewScript(clock + `
local is = redis.call('HMGET', KEYS[1], 'f', 'x')
if is[1] ~= ARGV[1] or not is[2] then return {3} end
redis.call('HSET', KEYS[1], 'x', now + ARGV[2])
return {1}`)

// releaseScript gives the lock up, if nobody else has taken it.
// KEYS session · ARGV fence
var releaseScript = redis.NewScript(`
if redis.call('HGET', KEYS[1], 'f') ~= ARGV[1] then return {3} end
redis.call('HDEL', KEYS[1], 'x')
return {1}`)
