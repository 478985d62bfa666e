-- Adjust one account's rate as its provider asks. mailglass.teach_limit in PostgreSQL does the same.
--
-- KEYS: the account's feedback. ARGV: pause in us (below 0: in proportion to the slowing), factor (1: no slowing),
-- how long the slowing lasts in us, mails a second (0: no rate granted), how long that holds in us, now in us or ''
-- for the server's clock.

local HARDEST = 16
local PAUSE_PER_FOLD = 500000
local KEPT = 60000

local pause, factor, lasting = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local granted_rate, granted_for, now = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end

local known = redis.call('HMGET', KEYS[1], 'pause_until', 'slow_until', 'factor', 'rate', 'rate_until')
local pause_until, slow_until, fold = tonumber(known[1] or 0), tonumber(known[2] or 0), tonumber(known[3] or 1)
local rate, rate_until = tonumber(known[4] or 0), tonumber(known[5] or 0)

if factor > 1 then
  -- what is refused during a pause was sent before it, and adds nothing
  if now >= slow_until then
    fold = math.min(HARDEST, factor)
  elseif now >= pause_until then
    fold = math.min(HARDEST, fold * factor)
  end
  if pause < 0 then pause = now < pause_until and 0 or PAUSE_PER_FOLD * fold end
  slow_until = math.max(slow_until, now + pause + lasting)
end
if pause > 0 then pause_until = math.max(pause_until, now + pause) end
if granted_rate > 0 then rate, rate_until = granted_rate, now + granted_for end

local function exact(number) return string.format('%.17g', number) end
redis.call('HSET', KEYS[1], 'pause_until', exact(pause_until), 'slow_until', exact(slow_until), 'factor', exact(fold),
           'rate', exact(rate), 'rate_until', exact(rate_until))
local kept = math.max(pause_until, slow_until, rate_until) - now
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.ceil(math.max(0, kept) / 1000) + KEPT))
return 1
