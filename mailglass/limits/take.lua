-- Take places for a batch of mails: all limits of one mail or none, in the order of the requests.
-- The reasoning stands in mailglass/limits/__init__.py. mailglass.take_limits in PostgreSQL computes the same; counts
-- of a day are kept there alone.
--
-- KEYS: the limits, then the feedback on those that belong to an account.
-- ARGV: the batch as JSON (mailglass/limits/batch.py), 1 where it is urgent, the horizon in us, a seed in [0, 1), now
-- in us or '' for the server's clock. Answers three lists as text: how many mails of each run were granted, and for each mail that was
-- not its delay in us and the position of the limit it waits for.

local CLOCK_STEP = 1000000   -- the clock may go back so far; further back it was set, and levels follow it
local GOLDEN = 0.6180339887498949
local GRANTED_TOLERANCE = 2000000
local MAIL_PARTS = 1048576   -- of a mail, to which counts are rounded up: exact in a double, and the same on all servers
local KEPT = 60000           -- ms that a drained limit is kept on

local call, floor, ceil, min, max = redis.call, math.floor, math.ceil, math.min, math.max
local batch = cjson.decode(ARGV[1])
local urgent, horizon, seed, now = ARGV[2] == '1', tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
if not now then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end

local intervals, tolerances, fulls = batch.intervals, batch.tolerances, batch.fulls
local count = #intervals
-- the rules as they are configured, before the feedback changes them
local bases, bursts = {}, {}
-- promises: up to where places are promised to mails of this batch's kind; others: to those of the other kind
local stamps, levels, promises, others, touched = {}, {}, {}, {}, {}
-- of limits whose rule has changed: the loosest rule since, and what was taken and has not drained at its rate
local guard_intervals, guard_fulls, guards = {}, {}, {}
-- ceilings: the highest level at which one more mail fits, below 0 during a pause
local pauses, ceilings = {}, {}

-- work at one interval as work at another: the same number of mails, rounded up
local function mails(level, interval) return ceil(level / interval * MAIL_PARTS) / MAIL_PARTS end

local function load(i, state)
  local base, full = intervals[i], fulls[i]
  local stamp, level, promise, hasty, before, before_full = now, 0, 0, 0, 0, 0
  local loosest, loosest_full, guard = 0, 0, 0
  if state then
    stamp, level, promise, hasty = struct.unpack('<dddd', state)
    -- 32 bytes are of an older worker, which keeps no rule
    if #state > 32 then before, before_full, loosest, loosest_full, guard = struct.unpack('<ddddd', state, 33) end
  end
  if base == 0 then
    loosest = 0
  elseif before > 0 and (before ~= base or before_full ~= full) then
    if loosest == 0 then loosest, loosest_full, guard = before, before_full, min(level, before_full) end
    if before ~= base then level = mails(level, before) * base end
    promise, hasty = 0, 0
  end
  if loosest > 0 then
    if base < loosest then
      guard, loosest_full = mails(guard, loosest) * base, loosest_full / loosest * base
      loosest = base
    end
    loosest_full = max(loosest_full, full / base * loosest)
    guard = min(guard, loosest_full)
  end
  if now >= stamp then
    local elapsed = now - stamp
    stamp, level, guard = now, max(0, level - elapsed), max(0, guard - elapsed)
    promise, hasty = max(0, promise - elapsed), max(0, hasty - elapsed)
  elseif stamp - now > CLOCK_STEP then
    stamp = now
  end
  if guard == 0 then loosest, loosest_full = 0, 0 end
  bases[i], bursts[i] = base, full
  guard_intervals[i], guard_fulls[i], guards[i] = loosest, loosest_full, guard
  stamps[i], levels[i] = stamp, level
  if urgent then
    promises[i], others[i] = hasty, promise
  else
    promises[i], others[i] = max(promise, hasty), hasty
  end
end

local function adjust(i, key)
  local feedback = call('HMGET', key, 'pause_until', 'slow_until', 'factor', 'rate', 'rate_until')
  if not feedback[1] then return end
  local rate = tonumber(feedback[4])
  if rate > 0 and now < tonumber(feedback[5]) then
    if intervals[i] == 0 then tolerances[i], fulls[i] = GRANTED_TOLERANCE, GRANTED_TOLERANCE end
    intervals[i] = max(intervals[i], 1000000 / rate)
  end
  if now < tonumber(feedback[2]) then intervals[i] = intervals[i] * tonumber(feedback[3]) end
  tolerances[i], fulls[i] = max(tolerances[i], intervals[i]), max(fulls[i], intervals[i])
  pauses[i] = max(0, tonumber(feedback[1]) - now)
end

for first = 1, count, 1000 do
  local states = call('MGET', unpack(KEYS, first, min(count, first + 999)))
  for offset = 1, #states do load(first + offset - 1, states[offset]) end
end
for i = 1, count do pauses[i] = 0 end
for offset, i in ipairs(batch.accounts) do adjust(i, KEYS[count + offset]) end
for i = 1, count do
  -- what was taken under another rule is no more than the burst of this one, and nothing where there is no rate
  levels[i] = intervals[i] == 0 and 0 or min(levels[i], fulls[i])
  ceilings[i] = pauses[i] > 0 and -1 or tolerances[i] - intervals[i]
end

-- how many of the wanted places fit into this space
local function fitting(space, interval, wanted)
  if space < 0 then return 0 end
  if wanted == 1 or interval == 0 then return wanted end
  local places = floor(space / interval)
  if places * interval > space then places = places - 1 end
  return min(wanted, places + 1)
end

-- how many of the wanted places this limit has
local function room(i, wanted)
  local places, loosest = fitting(ceilings[i] - levels[i], intervals[i], wanted), guard_intervals[i]
  if loosest == 0 or places == 0 then return places end
  return fitting(guard_fulls[i] - loosest - guards[i], loosest, places)
end

-- how long until one more mail fits by the loosest rule
local function guarded(i)
  local loosest = guard_intervals[i]
  return loosest == 0 and 0 or max(0, guards[i] + loosest - guard_fulls[i])
end

-- when a refused mail should come back for this limit's sake
local function wait(i, spread)
  local interval, tolerance, pause = intervals[i], tolerances[i], pauses[i]
  if interval == 0 then return pause + spread * min(pause, horizon) end
  pause = max(pause, guarded(i))
  local free = max(levels[i] + interval - tolerance, pause)
  local promise = max(promises[i], levels[i], pause + tolerance - interval) + interval
  local slot = promise - tolerance
  if slot - free > horizon then return free + horizon * (1 - spread / 3) end
  promises[i], touched[i] = promise, true
  return slot
end

local granted, delays, blockers, refused = {}, {}, {}, 0

local function refuse(group, mails)
  local full = {}
  for position = 1, #group do
    local i = group[position]
    if levels[i] > ceilings[i] or guarded(i) > 0 then full[#full + 1] = i end
  end
  for _ = 1, mails do
    local spread = seed + refused * GOLDEN
    spread = spread - floor(spread)
    local delay, blocker = -1, 0
    for position = 1, #full do
      local i = full[position]
      local waits = wait(i, spread)
      if waits > delay then delay, blocker = waits, i end
    end
    refused = refused + 1
    delays[refused], blockers[refused] = max(1, ceil(delay)), blocker
  end
end

for run = 1, #batch.runs, 2 do
  local group, mails = batch.groups[batch.runs[run]], batch.runs[run + 1]
  local places = mails
  for position = 1, #group do
    places = room(group[position], places)
    if places == 0 then break end
  end
  if places > 0 then
    for position = 1, #group do
      local i = group[position]
      levels[i] = levels[i] + places * intervals[i]
      guards[i] = guards[i] + places * guard_intervals[i]
      touched[i] = intervals[i] > 0
    end
  end
  granted[#granted + 1] = places
  if places < mails then refuse(group, mails - places) end
end

for i = 1, count do
  if touched[i] then
    local promise, hasty = promises[i], others[i]
    if urgent then promise, hasty = hasty, promise end
    local kept = max(levels[i], promise, hasty, guards[i])
    local state = struct.pack('<ddddddddd', stamps[i], levels[i], promise, hasty, bases[i], bursts[i],
                              guard_intervals[i], guard_fulls[i], guards[i])
    call('SET', KEYS[i], state, 'PX', ceil(kept / 1000) + KEPT)
  end
end
return {table.concat(granted, ' '), table.concat(delays, ' '), table.concat(blockers, ' ')}
