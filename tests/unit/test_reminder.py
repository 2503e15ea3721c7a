from zerostor.core.reminder import FIRST, LAST, SOON, Reminder


def test_at_once_then_ever_more_seldom():
    reminder = Reminder()
    told = [second for second in range(86_400) if reminder.due("away", second)]
    assert told[:4] == [0, FIRST, FIRST + 2 * FIRST, FIRST + 2 * FIRST + 4 * FIRST]
    assert told[-1] - told[-2] == LAST
    assert reminder.over()
    assert not reminder.over()
    assert reminder.due("away", 86_401), "it begins anew"


def test_in_other_words_it_is_told_soon_but_not_each_time():
    reminder = Reminder()
    words = ("refused", "no answer")
    told = [second for second in range(100) if reminder.due(words[second % 2], second)]
    assert told[0] == 0 and len(told) <= 100 / SOON + 1 and told[1] <= SOON + 1
