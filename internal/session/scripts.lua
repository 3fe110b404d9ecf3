-- A session is a string, session:{tag}:id: one key with one value costs Redis the least. First, a line that scripts read and
-- change in place, so that each number always has as many digits; a space between:
--
--     version, last seen, absolute end, when the sign-in began, hash of the provider's session ID or "-", count of reasons to
--     ask the provider again, when that was last tried, browser and system in words with a tab between
--
-- A version is a number that each save makes one larger; a time is in ms. What follows is sealed, and for Go alone: see record.body.
--
-- lock:{tag}:id holds who holds the session's lock, for as long as they do.
--
-- A session that has ended leaves a mark under its key: a Why, when, in seconds, and 1 until its browser has been told, then
-- 0. See ended.go, also for ended:{tag} and sid:hash.
--
-- person:{tag} is a sorted set of a person's session IDs by the time at which each ends if it is not used. That is the
-- time at which Redis forgets the session too, so what is past is dead, and what is not past is alive. A person's session
-- that is not in it is not believed, for nothing could end it from outside; that is looked at where it costs no command
-- more, once a minute.
--
-- Each script, which is what follows a name and what stands before the first, is one step for everybody. All keys of one run
-- are in one slot; those of a person's sessions are made from the members of the index, for they can't be known before. The
-- time is always Redis': instances may disagree about it. What must succeed when memory is full begins with a command that
-- needs none, for Redis refuses only the first write.

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- read returns a session's line in parts; nil if there is no such session, and then the mark that it may have left. pcall: a
-- key of another type is none.
local function read(key)
  local line, s = redis.pcall('GETRANGE', key, 0, 255), {key = key}
  if type(line) ~= 'string' then return end
  s.version, s.seen, s.absolute, s.since, s.sid, s.due, s.tried, s.words =
    string.match(line, '^(%d+) (%d+) (%d+) (%d+) (%S+) (%d+) (%d+) ([^\n]*)\n')
  if not s.version then return nil, line end
  for _, number in ipairs({'version', 'seen', 'absolute', 'since', 'due', 'tried'}) do s[number] = tonumber(s[number]) end
  return s
end

-- line writes a session's line.
local function line(s)
  return string.format('%010.0f %013.0f %013.0f %013.0f %s %010.0f %013.0f %s\n',
    s.version, s.seen, s.absolute, s.since, s.sid, s.due, s.tried, s.words)
end

-- write changes the line in place, and for how long the session lives if that is given. In its last millisecond it ends by that:
-- then the line alone would live for ever.
local function write(s, life)
  redis.call('PEXPIRE', s.key, math.max(1, life or redis.call('PTTL', s.key)))
  if redis.call('EXISTS', s.key) == 1 then redis.call('SETRANGE', s.key, 0, line(s)) end
end

-- put writes a key anew.
local function put(key, value, life)
  redis.call('DEL', key)
  redis.call('SET', key, value, 'PX', math.max(1, life))
end

-- sessions returns those of a person's index. What is none may be on its way to another node of the cluster: only who ends
-- sessions drops it from the index, so that it is not believed when it has arrived.
local function sessions(index, drop)
  local all = {}
  redis.call('ZREMRANGEBYSCORE', index, '-inf', now())
  for _, id in ipairs(redis.call('ZRANGE', index, 0, -1)) do
    local s = read('session' .. string.sub(index, #'person' + 1) .. ':' .. id)
    if s then
      s.id = id
      all[#all + 1] = s
    elseif drop then
      redis.call('ZREM', index, id)
    end
  end
  return all
end

-- keep makes a key live for that long at least.
local function keep(key, life)
  if redis.call('PTTL', key) < tonumber(life) then redis.call('PEXPIRE', key, life) end
end

-- enter puts a member into an index for its life, drops what is past, and lets the index outlive its last member.
local function enter(index, member, life, longest)
  redis.call('ZREMRANGEBYSCORE', index, '-inf', now())
  redis.call('ZADD', index, now() + life, member)
  keep(index, longest or life)
end

-- lock is the key of a session's lock.
local function lock(key) return 'lock' .. string.sub(key, #'session' + 1) end

-- bury ends a session, and leaves the mark: until the session's absolute end, but where its own browser ended it only for
-- as long as requests from before may be under way.
local function bury(s, why)
  local life = s.absolute - now()
  if why == 'person' then life = math.min(life, 300000) end
  put(s.key, why .. ' ' .. math.floor(now() / 1000) .. ' 1', life)
  redis.call('DEL', lock(s.key))
end

-- name: extend session
-- Extends a session's idle time, unless that was done a moment ago. A person's session that the index does not
-- hold is none.
-- KEYS session, person · ARGV idle, moment, id or for a visitor's ""
local s, mark = read(KEYS[1])
if not s then return {0, mark} end
if ARGV[3] ~= '' and type(redis.pcall('ZSCORE', KEYS[2], ARGV[3])) ~= 'string' then return {0} end
if math.abs(now() - s.seen) < tonumber(ARGV[2]) then return {2} end -- abs: a failover may turn the clock back
local life = math.max(1, math.min(ARGV[1], s.absolute - now()))
s.seen = now()
write(s, life)
redis.call('ZADD', KEYS[2], 'XX', now() + life, ARGV[3])
return {1}

-- name: start session
-- Writes a new session, and a person's into the index, unless an end from outside came after the sign-in began.
-- It answers with the session's line.
-- KEYS session, person, and for a person the mark of such an end ·
-- ARGV idle, absolute, when the sign-in began, id, hash of the provider's session ID or "-", words, body
local ended = KEYS[3] and redis.call('GET', KEYS[3])
if ended and tonumber(ended) > tonumber(ARGV[3]) then return {3} end
local life, since = math.min(ARGV[1], ARGV[2]), KEYS[3] and tonumber(ARGV[3]) or now()
local text = line({version = 1, seen = now(), absolute = now() + ARGV[2], since = since, sid = ARGV[5],
  due = 0, tried = 0, words = ARGV[6]})
redis.call('SET', KEYS[1], text .. ARGV[7], 'PX', life)
if KEYS[3] then
  enter(KEYS[2], ARGV[4], life, ARGV[2])
  -- A hundred browsers are enough for a person; a program that signs in again and again must not make long lists.
  local all = sessions(KEYS[2])
  for i = 1, #all - 100 do
    bury(all[i], 'other')
    redis.call('ZREM', KEYS[2], all[i].id)
  end
end
return {1, text}

-- name: save session
-- Replaces a session's body, if the session exists, is in the version that was read, and the lock (if one is
-- claimed) is still the claimant's. On a conflict it answers with the session as it is.
-- KEYS session · ARGV version, holder or "", body
local s, mark = read(KEYS[1])
if not s then return {0, mark} end
if ARGV[2] ~= '' and redis.call('GET', lock(KEYS[1])) ~= ARGV[2] then return {3} end
if s.version ~= tonumber(ARGV[1]) then return {2, redis.call('GET', KEYS[1])} end
s.version = s.version + 1
local life = redis.call('PTTL', KEYS[1])
if ARGV[2] ~= '' then redis.call('DEL', KEYS[1]) end -- what the holder of the lock got is saved if memory is full, too
redis.call('SET', KEYS[1], line(s) .. ARGV[3], 'PX', math.max(1, life))
return {1}

-- name: end session
-- Ends a session, and answers with what it was.
-- KEYS session, person · ARGV id, why
local s, mark = read(KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
if not s then
  if mark and string.match(mark, '^%a+ %d+ %d$') then return {0} end
  return {redis.call('DEL', KEYS[1]), ''} -- nobody can read it
end
local was = redis.call('GET', KEYS[1])
bury(s, ARGV[2])
return {1, was}

-- name: end sessions
-- Ends the sessions of an index, except one, and only those with the provider's session ID, or from before a
-- time, if that is given. Without a provider's session ID it leaves a mark, so that no sign-in from before starts one, unless the
-- mark has no life. It answers with how many it ended.
-- KEYS person, mark · ARGV id to keep or "", hash of the provider's session ID or "", why, before or "", life of the mark
local before, count = tonumber(ARGV[4]), 0
if before then before = math.min(before, now()) end -- whatever the provider's clock says
for _, s in ipairs(sessions(KEYS[1], true)) do
  if s.id ~= ARGV[1] and (ARGV[2] == '' or s.sid == ARGV[2]) and (not before or s.since < before) then
    bury(s, ARGV[3])
    redis.call('ZREM', KEYS[1], s.id)
    count = count + 1
  end
end
if ARGV[2] == '' and ARGV[5] ~= '0' then
  put(KEYS[2], math.max(tonumber(redis.call('GET', KEYS[2]) or 0), before or now()), ARGV[5])
end
return {1, count}

-- name: mark sessions as due
-- Gives each session of an index a reason to ask the provider again, and answers with how many there are.
-- KEYS person, mark
local all = sessions(KEYS[1])
for _, s in ipairs(all) do
  s.due, s.tried = (s.due + 1) % 4294967296, 0
  write(s)
end
return {1, #all}

-- name: count sessions
-- Answers with a session, and with how many its person has.
-- KEYS session, person · ARGV last byte to read
return {redis.pcall('GETRANGE', KEYS[1], 0, ARGV[1]), redis.pcall('ZCOUNT', KEYS[2], now(), '+inf')}

-- name: list sessions
-- Answers with the ID and the line of each session of an index.
-- KEYS person, mark
local answer = {1}
for _, s in ipairs(sessions(KEYS[1])) do
  answer[#answer + 1], answer[#answer + 2] = s.id, line(s)
end
return answer

-- name: note that the browser was told
-- Reports whether the browser is still to be told of the end that a mark is of, once.
-- KEYS session
local _, mark = read(KEYS[1])
local told = mark and string.match(mark, '^(%a+ %d+ )1$')
if not told then return {0} end
put(KEYS[1], told .. '0', redis.call('PTTL', KEYS[1]))
return {1}

-- name: lock session
-- Takes the lock if it is free, or was free and the answer got lost, and answers with the session as it is;
-- else with the time after which it is free at the latest. With a pause it also refuses if it was taken with one within
-- that time.
-- KEYS session · ARGV holder, life, pause or 0
local s, mark = read(KEYS[1])
if not s then return {0, mark} end
local holder = redis.call('GET', lock(KEYS[1]))
if holder and holder ~= ARGV[1] then return {3, redis.call('PTTL', lock(KEYS[1]))} end
if ARGV[3] ~= '0' then
  local since = math.abs(now() - s.tried) -- abs: a failover may turn the clock back
  if since < tonumber(ARGV[3]) then return {3, ARGV[3] - since} end
  s.tried = now()
  write(s)
end
put(lock(KEYS[1]), ARGV[1], ARGV[2])
return {1, redis.call('GET', KEYS[1])}

-- name: renew lock
-- Extends the lock, or with life 0 gives it up, if nobody else has taken it.
-- KEYS session · ARGV holder, life
if redis.call('GET', lock(KEYS[1])) ~= ARGV[1] then return {3} end
redis.call('PEXPIRE', lock(KEYS[1]), ARGV[2])
return {1}

-- name: index sid
-- Puts a person's tag into the index, unless an end from outside came after the sign-in began.
-- KEYS sid · ARGV member, its mark, when the sign-in began plus a mark's life, life
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[2]) or 0) > tonumber(ARGV[3]) then return {3} end
enter(KEYS[1], ARGV[1], ARGV[4])
return {1}

-- name: end sid
-- Answers with what is in the index, and leaves the mark of an end from outside.
-- KEYS sid · ARGV mark, its life
local members = redis.call('ZRANGE', KEYS[1], 0, -1)
enter(KEYS[1], ARGV[1], ARGV[2])
table.insert(members, 1, 1)
return members

-- name: remember id
-- Notes something for at least some time, and answers whether it was not noted before.
-- KEYS note · ARGV life
if redis.call('SET', KEYS[1], 1, 'NX', 'PX', ARGV[1]) then return {1} end
keep(KEYS[1], ARGV[1])
return {0}
