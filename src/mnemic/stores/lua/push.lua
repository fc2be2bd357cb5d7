-- Puts turns at the end of a session's copy, or in its place, and keeps the copy within its budgets.
--
-- KEYS[1]  a list: the head, then turns, oldest first. One key, so that nothing is ever there by half.
-- ARGV     1 the head that the caller saw ("" for none), 2 when it saw it (ms of this server's clock),
--          3 "append" or "replace", 4 the first words of the new head, 5 to 7 what is known of the newest
--          turn that the list doesn't hold (recorded at, tokens, expires at; "-" for no such turn),
--          8 most messages, 9 most tokens (-1: any number), 10 most bytes, 11 recorded since,
--          12 life in ms, 13 the last words of the new head, 14 ... the turns
-- Returns  1, or 0 where nothing was changed.
--
-- Whoever saw another head knows another copy, or one from before messages were forgotten: it is refused.
-- A mark against that stays for ten minutes, so whoever saw its head over a minute ago is refused as well.

local key = KEYS[1]
local head = redis.call('LINDEX', key, 0) or ''
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if head ~= ARGV[1] or now - tonumber(ARGV[2]) > 60000 then
  return 0
end

local recorded, over, expires = ARGV[5], ARGV[6], ARGV[7]
local count, tokens, size = 0, 0, 0
if ARGV[3] == 'append' then
  -- m1 digest changed at, recorded over expires, count tokens size, ...
  local words = {}
  for word in string.gmatch(head, '%S+') do
    words[#words + 1] = word
  end
  recorded, over, expires = words[5], words[6], words[7]
  count, tokens, size = tonumber(words[8]), tonumber(words[9]), tonumber(words[10])
  redis.call('LPOP', key)
else
  redis.call('DEL', key)
end

local function facts(turn)
  return string.match(turn, '^%[%d+,(%d+),(%-?%d+),(%-?%d+),')
end

for i = 14, #ARGV do
  redis.call('RPUSH', key, ARGV[i])
  count = count + 1
  tokens = tokens + tonumber((facts(ARGV[i])))
  size = size + #ARGV[i]
end

local most, most_tokens, most_size = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local since = tonumber(ARGV[11])
while count > 0 do
  local oldest = redis.call('LINDEX', key, 0)
  local its_tokens, its_time, its_end = facts(oldest)
  local fits = count <= most and size <= most_size and tonumber(its_time) >= since
  if fits and (most_tokens < 0 or tokens <= most_tokens) then
    break
  end
  redis.call('LPOP', key)
  recorded, over, expires = its_time, its_tokens, its_end
  count, tokens, size = count - 1, tokens - tonumber(its_tokens), size - #oldest
end

local totals = string.format('%d %d %d', count, tokens, size)
redis.call('LPUSH', key, table.concat({ARGV[4], recorded, over, expires, totals, ARGV[13]}, ' '))
redis.call('PEXPIRE', key, ARGV[12])
return 1
