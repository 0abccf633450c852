"""The chat templates of make_text_goldens.py: LINES are one-line templates, a feature each, as
(template, {"messages": ..., "kwargs": ...}); TEMPLATE_CASES are whole ones (templates/*.jinja)."""

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi, what's 2+2?"},
    {"role": "assistant", "content": "<think>\nsum\n</think>\n\n4"},
    {"role": "user", "content": "  And 3+3?\n"},
]

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Weather in a city, °C & \"quoted\" <b>\u2028",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "enum": ["Paris", "Zürich"]},
                    "days": {"type": "integer", "default": 1, "minimum": 0.5},
                    "items": {"type": "array", "items": {"type": ["string", "null"]}},
                    "deep": {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": []},
                },
                "required": ["city"],
            },
            "return": {"type": "object"},
        },
    },
    {"type": "function", "function": {"name": "now", "description": "", "parameters": {"type": "object", "properties": {}}}},
]

TOOL_CHAT = [
    {"role": "user", "content": "Weather in Paris?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "abcdefghi",
                "type": "function",
                "function": {"name": "get_weather", "arguments": {"city": "Paris", "days": 2, "x": 1.0, "ok": True, "n": None}},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "abcdefghi", "name": "get_weather", "content": "{\"temp\": 21.5}"},
    {"role": "assistant", "content": "21.5 degrees.", "reasoning_content": "The tool said so."},
    {"role": "user", "content": "Thanks"},
]

PARTS = [
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]},
    {"role": "assistant", "content": [{"type": "text", "text": "A cat."}]},
    {"role": "user", "content": [{"type": "text", "text": "Sure?"}, {"type": "image", "url": "x.png"}]},
]

DOCUMENTS = [{"title": "One", "text": "First text."}, {"title": "Two", "text": "Second\ntext."}]


def with_values(*templates):
    """Templates over a few values of every type."""
    values = {
        "i": 7, "neg": -7, "big": 12345678901234567, "f": 3.0, "pi": 3.14159, "tiny": 1e-7, "huge": 1e22,
        "t": True, "no": False, "none": None, "s": "Hello World", "u": "Größe \U0001f642 \u200b", "e": "",
        "l": [1, "two", 3.5, None, True, [4, {"k": "v"}]], "d": {"b": 1, "a": {"c": [1, 2]}, "items": 3},
        "words": ["b", "a", "C", "a"], "q": "it's \"quoted\" \\ \n\t", "nums": [3, 1, 2],
        "rows": [{"n": "x", "v": 2}, {"n": "y", "v": 1}, {"n": "z"}],
    }
    return [(t, {"kwargs": values}) for t in templates]


LINES = with_values(
    # Printing
    "{{ i }} {{ neg }} {{ big }} {{ f }} {{ pi }} {{ tiny }} {{ huge }}",
    "{{ t }} {{ no }} {{ none }} [{{ e }}] [{{ missing }}]",
    "{{ l }} {{ d }}", "{{ q }} {{ [q] }}", "{{ u }} {{ [u] }}", "{{ [tiny, huge, f, 1e16, 123456.789e3] }}",
    "{{ 'a' ~ i ~ f ~ none ~ t ~ l }}", "{{ f ~ '' }} {{ huge ~ '' }} {{ tiny | string }}",
    "{{ (1, 2) }} {{ (1,) }} {{ () }}", "{{ {'x': 1, 2: 'y'} }}", "{{ 1e3 }} {{ 1_000 }} {{ 0.1 + 0.2 }}",
    "{{ s.upper }}" if False else "{{ s | string }}",
    # Arithmetic
    "{{ 7 / 2 }} {{ 8 / 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 2 ** 10 }} {{ 2 ** -1 }}",
    "{{ 7.5 // 2 }} {{ 7.5 % 2 }} {{ 1 + 2.0 }} {{ 3 * 'ab' }} {{ 'ab' * 2 }} {{ [1] * 3 }} {{ [1] + [2] }}",
    "{{ 1 + true }} {{ true + true }} {{ -i }} {{ +i }}", "{{ 10 - 2 * 3 }} {{ (10 - 2) * 3 }} {{ 2 ** 3 ** 2 }}",
    "{{ 'a' + 'b' }}", "{{ 'a' + 1 }}", "{{ 1 / 0 }}", "{{ 1 // 0 }}", "{{ 1 % 0 }}", "{{ none + 1 }}",
    "{{ missing + 'x' }}", "{{ 'x' + missing }}", "{{ missing ~ 'x' }}", "{{ missing.attr }}", "{{ missing['k'] }}",
    "{{ missing() }}", "{{ d.missing.deeper }}", "{{ d['missing'] }}", "{{ none.attr }}", "{{ i.attr }}",
    # Comparison and logic
    "{{ 1 == 1.0 }} {{ 1 == true }} {{ '1' == 1 }} {{ [1] == [1.0] }} {{ {'a': 1} == {'a': 1} }} {{ none == false }}",
    "{{ 1 < 2 < 3 }} {{ 3 > 2 > 2 }} {{ 'a' < 'b' }} {{ 'B' < 'a' }}", "{{ 1 < 'a' }}", "{{ [1, 2] < [1, 3] }}",
    "{{ e or 'x' }} {{ i and 'y' }} {{ not e }} {{ 0 or none or [] or 'z' }} {{ missing or 'm' }}",
    "{{ 'a' if t }} {{ 'a' if no }} {{ 'a' if no else 'b' }} {{ 'a' if none else 'b' if t else 'c' }}",
    "{{ 'ell' in s }} {{ 'x' not in s }} {{ 'b' in d }} {{ 1 in l }} {{ none in l }} {{ 3 in nums }}",
    "{{ 'x' in missing }}", "{{ 'x' in none }}", "{{ 'x' in i }}", "{{ missing == none }} {{ missing is none }} {{ missing == missing2 }}",
    # Subscripts and slices
    "{{ s[0] }}{{ s[-1] }} {{ s[1:4] }} {{ s[::-1] }} {{ s[-3:] }} {{ s[:-3] }} {{ s[::2] }} {{ s[10:2:-2] }} {{ s[100:] }}",
    "{{ nums[::-1] }} {{ nums[1:] }} {{ nums[-2:] }} {{ nums[5:] }} {{ nums[0] }} {{ nums[-1] }}", "{{ nums[10] }}", "{{ s[50] }}",
    "{{ u[0:3] }} {{ u[6] }}", "{{ d.a.c[0] }} {{ d['a']['c'][-1] }} {{ d.a.c[1:] }}", "{{ l[5][1].k }}", "{{ nums['x'] }}",
    "{{ messages[::-1][0].role }} {{ messages[1:] | length }} {{ messages[-1]['content'] }}",
    # Statements
    "{% for x in nums %}{{ loop.index }}/{{ loop.index0 }}/{{ loop.revindex }}/{{ loop.revindex0 }}/{{ loop.first }}/{{ loop.last }}/{{ loop.length }};{% endfor %}",
    "{% for x in nums %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }};{% endfor %}",
    "{% for x in nums %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }}{{ loop.depth }}{{ loop.depth0 }};{% endfor %}",
    "{% for x in nums %}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for x in words %}{{ loop.changed(x) }},{% endfor %}",
    "{% for x in [] %}{{ x }}{% else %}none{% endfor %}", "{% for x in missing %}{{ x }}{% else %}none{% endfor %}",
    "{% for x in none %}{{ x }}{% endfor %}", "{% for x in i %}{{ x }}{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k, v in d | items %}{{ k }}={{ v }};{% endfor %}",
    "{% for k in d %}{{ k }}{% endfor %}", "{% for k in d.keys() %}{{ k }}{% endfor %}", "{% for v in d.values() %}{{ v }}{% endfor %}",
    "{% for c in 'añ' %}{{ c }}.{% endfor %}", "{% for a, b in [[1, 2], [3, 4]] %}{{ a }}{{ b }}{% endfor %}",
    "{% for a, b in [[1, 2, 3]] %}{{ a }}{% endfor %}", "{% for x in nums if x > 1 %}{{ loop.index }}{{ x }}{% endfor %}",
    "{% for x in range(5) %}{% if x == 1 %}{% continue %}{% endif %}{% if x == 3 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in range(10, 0, -3) %}{{ x }} {% endfor %}{{ range(3) | list }}", "{% for x in range(100000001) %}{% endfor %}",
    "{% for x in l recursive %}{% if x is iterable and x is not string and x is not mapping %}[{{ loop(x) }}]{% else %}{{ x }},{% endif %}{% endfor %}",
    "{% set x = 1 %}{% for y in nums %}{% set x = y %}{% endfor %}{{ x }}", "{% set ns = namespace(x=1) %}{% for y in nums %}{% set ns.x = ns.x + y %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace() %}{{ ns.missing }}{% set ns.a = [1] %}{{ ns.a }}", "{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns.b }}{{ ns['a'] }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set x %}block {{ i }}{% endset %}{{ x }}|{{ x | upper }}", "{% set x | upper %}block{% endset %}{{ x }}",
    "{% if x is defined %}a{% elif none is none %}b{% else %}c{% endif %}", "{% if not messages %}a{% endif %}b",
    "{% macro m(a, b=2, c='x') %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }} {{ m(1, c='y') }} {{ m(a=0, b=none) }}",
    "{% macro m(a) %}[{{ a }}]{% endmacro %}{{ m() }}", "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}",
    "{% macro m(a) %}{{ a }}{% if a > 0 %}{{ m(a - 1) }}{% endif %}{% endmacro %}{{ m(3) }}",
    "{% macro m() %}({{ caller() }}){% endmacro %}{% call m() %}inner{{ i }}{% endcall %}",
    "{% macro m() %}{{ caller(5) }}{% endmacro %}{% call(x) m() %}got {{ x }}{% endcall %}", "{% macro m() %}x{% endmacro %}{{ m }}" if False else "{% macro m() %}{{ i }}{% endmacro %}{{ m() }}",
    "{% filter upper %}abc {{ s }}{% endfilter %}", "{% with a = 1, b = i %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% raw %}{{ x }}{% endraw %}",
    "a{# comment {{ x }} #}b", "{% set i = 5 %}{{ i }}", "{{ 'a\\nb\\t\\'\\\\' }}", "{{ 'unicode \\u00e9 \\x41' }}",
    "{%- for m in messages -%}\n  {{ m.role }}  \n{%- endfor -%}\n tail ", "  {% if t %}\n  x\n  {% endif %}\n y\n", "a  {%+ if t %}b{% endif +%}\n c", "x\n", "x\n\n",
    "{% if t %}\n\nx{% endif %}", "{{ i -}}   b", "a   {{- i }}", "{#- c -#}  z", "{% do l.append(1) %}", "{{ l.append(1) }}", "{{ d.update({'z': 1}) }}", "{{ d.pop('b') }}",
    "{% generation %}{{ s }}{% endgeneration %}!", "a {%- generation -%} b {%- endgeneration %} c", "{% generation %}{% set zz = 1 %}{{ zz }}{% endgeneration %}{{ zz }}",
    "{% for x in nums %}{% generation %}{{ x }}{{ loop.index }}{% endgeneration %}{% endfor %}",
    "{% include 'x' %}", "{% import 'x' as y %}", "{% extends 'x' %}", "{% block b %}in{% endblock %}", "{% unknown %}", "{{ unclosed", "{% if t %}", "{{ }}", "{% for %}{% endfor %}", "{{ 'a' 'b' }}",
    # Tests
    "{{ i is number }}{{ s is string }}{{ l is sequence }}{{ d is mapping }}{{ none is none }}{{ t is boolean }}{{ t is number }}{{ f is float }}{{ i is integer }}{{ l is iterable }}{{ s is sequence }}{{ d is sequence }}{{ s is iterable }}{{ s is mapping }}",
    "{{ i is odd }}{{ i is even }}{{ i is divisibleby 7 }}{{ i is divisibleby(2) }}{{ s is lower }}{{ s is upper }}{{ i is eq 7 }}{{ i is ne 7 }}{{ i is gt 3 }}{{ i is lt 3 }}{{ i is ge 7 }}{{ i is le 7 }}{{ 1 is in nums }}{{ t is true }}{{ t is false }}{{ no is false }}{{ 1 is true }}",
    "{{ i is sameas i }}{{ none is sameas none }}{{ m is callable }}{{ s is not none }}{{ missing is undefined }}{{ missing is not defined }}{{ i is equalto 7 }}", "{{ i is nosuchtest }}",
    # Filters
    "{{ s | upper }}{{ s | lower }}{{ 'hello wORLD foo-bar' | title }}{{ 'hELLO' | capitalize }}", "{{ '  x ' | trim }}|{{ 'xxaxx' | trim('x') }}|{{ '\\u00a0x\\n' | trim }}|",
    "{{ l | length }}{{ s | length }}{{ d | length }}{{ u | length }}{{ missing | length }}{{ l | count }}", "{{ i | length }}", "{{ none | length }}",
    "{{ nums | join(', ') }} {{ nums | join }} {{ rows | join('-', attribute='n') }} {{ s | join('.') }} {{ [none, true, 1.0] | join('/') }}",
    "{{ missing | default('d') }} {{ none | default('d') }} {{ none | default('d', true) }} {{ e | default('d') }} {{ e | d('d', boolean=true) }}", "{{ missing.x | default('d') }}",
    "{{ nums | first }}{{ nums | last }}{{ [] | first }}{{ [] | last }}", "{{ nums | sort }} {{ nums | sort(reverse=true) }} {{ words | sort }} {{ words | sort(case_sensitive=true) }} {{ rows | selectattr('v') | sort(attribute='v') | map(attribute='n') | list }}",
    "{{ nums | max }}{{ nums | min }}{{ nums | sum }}{{ rows | selectattr('v', 'defined') | sum(attribute='v') }}{{ [] | max }}", "{{ nums | reverse | list }} {{ s | reverse }}", "{{ words | unique | list }} {{ words | unique(case_sensitive=true) | list }}",
    "{{ rows | map(attribute='n') | list }} {{ rows | map(attribute='v', default=0) | list }} {{ words | map('upper') | list }} {{ words | map('replace', 'a', 'z') | list }}",
    "{{ rows | selectattr('v') | list | length }} {{ rows | rejectattr('v') | list }} {{ rows | selectattr('n', 'equalto', 'y') | list }}", "{{ rows | selectattr('v', 'gt', 1) | list }}", "{{ nums | select('odd') | list }} {{ nums | reject('odd') | list }} {{ [0, 1, ''] | select | list }} {{ nums | select('>', 1) | list }}",
    "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | list }}", "{{ (messages | selectattr('role', '==', 'user') | list)[-1].content }}", "{{ rows | groupby('v') | list | length }}" if False else "{{ nums | list }}",
    "{% for g in [{'a': 1, 'b': 2}, {'a': 1, 'b': 3}, {'a': 0, 'b': 4}] | groupby('a') %}{{ g.grouper }}:{{ g.list | length }};{% endfor %}", "{{ d | dictsort }} {{ {'b': 1, 'A': 2} | dictsort }} {{ {'b': 1, 'a': 2} | dictsort(by='value') }} {{ {'b': 1, 'a': 2} | dictsort(reverse=true) }}",
    "{{ nums | batch(2) | list }} {{ nums | batch(2, 0) | list }} {{ nums | slice(2) | list }}", "{{ -3 | abs }} {{ neg | abs }} {{ 2.5 | round }} {{ 3.5 | round }} {{ 3.14159 | round(2) }} {{ 2.1 | round(method='ceil') }} {{ 2.9 | round(0, 'floor') }} {{ 7 | round }}",
    "{{ '42' | int }} {{ 'x' | int }} {{ 'x' | int(5) }} {{ '3.9' | int }} {{ 3.9 | int }} {{ '0x1f' | int(base=16) }} {{ '1.5' | float }} {{ 'x' | float }} {{ i | float }} {{ t | int }} {{ none | int }}",
    "{{ s | replace('o', '0') }} {{ s | replace('o', '0', 1) }} {{ s | list }} {{ d | list }} {{ t | string }} {{ i | string | length }}", "{{ 'a\\nb\\n\\nc' | indent }}|{{ 'a\\nb\\n\\nc' | indent(2, true) }}|{{ 'a\\nb\\n\\nc' | indent(2, blank=true) }}|{{ 'a\\nb' | indent('>') }}",
    "{{ 'a b c' | wordcount }} {{ s | truncate(8) }} {{ s | center(20) }}|", "{{ '%s is %d and %.2f' | format(s, i, pi) }} {{ '%05d|%-5s|%x' | format(i, 'a', 255) }}", "{{ '<a & \"b\">' | e }} {{ '<a>' | escape }} {{ '<a>' | safe }}", "{{ d | items | list }} {{ d | tojson }}", "{{ s | attr('upper') }}" if False else "{{ d | attr('b') }}", "{{ s | nosuchfilter }}", "{{ 'x' | striptags }} {{ '<b>x</b> y' | striptags }}", "{{ 'http://a b' | urlencode }} {{ {'a': 'b c', 'd': 1} | urlencode }}", "{{ s | wordwrap(5) }}", "{{ 123456789 | filesizeformat }}", "{{ l | pprint }}", "{{ {'a': none, 'b': 'x<'} | xmlattr }}", "{{ nums | random in nums }}", "{{ [3, 1] | sort | first }}", "{{ 'abc' | forceescape }}",
    # tojson
    "{{ l | tojson }}", "{{ d | tojson(indent=2) }}", "{{ d | tojson(indent=4) }} {{ [] | tojson(indent=2) }} {{ {} | tojson(indent=2) }} {{ [[]] | tojson(indent=1) }}", "{{ d | tojson(sort_keys=true) }}", "{{ d | tojson(separators=(',', ':')) }}", "{{ d | tojson(indent='\\t', separators=(',', ' : ')) }}", "{{ u | tojson }} {{ u | tojson(ensure_ascii=true) }} {{ q | tojson }}", "{{ '<a href=\"x\">&\\'</a>' | tojson }}",
    "{{ [i, f, pi, tiny, huge, big, t, none] | tojson }}", "{{ {1: 'a', 2.5: 'b', true: 'c', none: 'd'} | tojson }}", "{{ (1, 2) | tojson }}", "{{ missing | tojson }}", "{{ {'a': missing} | tojson }}", "{{ d.items() | list | tojson }}", "{{ '\\x7f\\u2028\\x00\\x1f' | tojson }}", "{{ messages | tojson }}", "{{ messages[0] | tojson(indent=2, ensure_ascii=true) }}", "{{ range(3) | list | tojson }}", "{{ 1.0 | tojson }}{{ 1e400 | tojson }}" if False else "{{ 1.0 | tojson }}", "{{ d | tojson(true) }}", "{{ d | tojson(false, 1) }}", "{{ nums | map('string') | list | tojson }}",
    # Methods
    "{{ s.upper() }} {{ s.lower() }} {{ s.title() }} {{ s.capitalize() }} {{ s.swapcase() }} {{ 'ß'.upper() }} {{ \"they're bill's\".title() }}", "{{ ' x '.strip() }}|{{ ' x '.lstrip() }}|{{ ' x '.rstrip() }}|{{ 'xyax'.strip('xy') }}|{{ '\\n\\nx\\n'.strip('\\n') }}|{{ ' x'.strip(none) }}",
    "{{ 'a,b,,c'.split(',') }} {{ ' a  b '.split() }} {{ 'a,b,c'.split(',', 1) }} {{ 'a b c'.split(none, 1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ ''.split() }} {{ ''.split(',') }} {{ 'a,b,c'.split(',', maxsplit=1) }}", "{{ 'abc'.split('') }}", "{{ 'a</think>b'.split('</think>')[-1].lstrip('\\n') }} {{ 'x'.split('</think>')[0] }} {{ 'ab'.split(sep='b') }}",
    "{{ s.startswith('He') }} {{ s.endswith('ld') }} {{ s.startswith(('x', 'H')) }} {{ s.startswith('l', 2) }} {{ s.startswith('') }}", "{{ s.find('o') }} {{ s.find('z') }} {{ s.rfind('o') }} {{ s.index('o') }} {{ s.count('l') }} {{ s.find('o', 5) }} {{ u.find('\\U0001f642') }}", "{{ s.index('z') }}", "{{ s.replace('l', 'L') }} {{ s.replace('l', 'L', 1) }} {{ 'aaa'.replace('', '-') }}",
    "{{ ','.join(words) }} {{ ''.join(['a', 'b']) }} {{ '-'.join('abc') }}", "{{ ','.join(nums) }}", "{{ 'a\\nb\\r\\nc\\rd'.splitlines() }} {{ 'a\\nb\\n'.splitlines(true) }} {{ ''.splitlines() }}", "{{ 'abc'.isalpha() }}{{ '12'.isdigit() }}{{ '1a'.isalnum() }}{{ ' '.isspace() }}{{ 'a'.islower() }}{{ 'A'.isupper() }}{{ ''.isalpha() }}{{ '½'.isnumeric() }}{{ '²'.isdigit() }}{{ '½'.isdigit() }}{{ '1'.isdecimal() }}{{ 'Ab Cd'.istitle() }}{{ 'abc'.isascii() }}{{ 'a1'.isidentifier() }}",
    "{{ 'a-b-c'.partition('-') }} {{ 'a-b-c'.rpartition('-') }} {{ 'abc'.partition('-') }} {{ 'abc'.rpartition('-') }}", "{{ 'abc'.removeprefix('a') }} {{ 'abc'.removesuffix('c') }} {{ 'abc'.removeprefix('x') }}", "{{ '7'.zfill(3) }} {{ '-7'.zfill(4) }} {{ 'a'.ljust(3) }}| {{ 'a'.rjust(3, '*') }} {{ 'a'.center(4, '.') }} {{ 'ab'.center(5, '.') }}", "{{ 'a\\tb'.expandtabs(4) }} {{ 'ẞ'.casefold() }}", "{{ '{} and {}'.format(1, 'x') }} {{ '{0}{1}{0}'.format('a', 'b') }} {{ '{a:>5}|{b:.2f}'.format(a=1, b=pi) }}", "{{ '%s' % s }} {{ '%d-%s' % (1, 'a') }}", "{{ s.nosuch() }}", "{{ s.nosuch }}", "{{ s.encode() }}" if False else "{{ s.lower().upper() }}",
    "{{ d.get('b') }} {{ d.get('z') }} {{ d.get('z', 'dflt') }} {{ d.keys() | list }} {{ d.values() | list }} {{ d.items() | list }} {{ d.get('a').c }} {{ d.get('z', {}).get('y') }}", "{{ d.items }}" if False else "{{ d['items'] }}", "{{ d.copy() }} {{ nums.copy() }}", "{{ nums.index(1) }} {{ words.count('a') }}", "{{ nums.index(99) }}", "{{ dict(a=1, b=2) }} {{ dict({'x': 1}, y=2) }} {{ dict([['k', 'v']]) }} {{ dict() }}", "{{ i.bit_length() }}" if False else "{{ f.is_integer() }}", "{{ d.setdefault('q', 1) }}", "{{ nums.pop() }}", "{{ nums.sort() }}",
    "{{ {'get': 5}.get('get') }} {{ {'items': [1]}.items() | list }} {{ {'keys': 1}.keys() | list }}", "{% for k, v in {'items': 1, 'get': 2}.items() %}{{ k }}{{ v }}{% endfor %}", "{{ namespace(a=1).a }}", "{{ lipsum is defined }} {{ cycler is defined }} {{ joiner is defined }} {{ range is defined }} {{ dict is defined }}", "{% set j = joiner(', ') %}{% for x in nums %}{{ j() }}{{ x }}{% endfor %}", "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.next() }}",
    # transformers
    "{{ raise_exception('no: ' ~ i) }}", "{% if t %}{{ raise_exception('multi\nline') }}{% endif %}", "{{ bos_token }}{{ eos_token }}{{ pad_token }}{{ unk_token }}{{ sep_token }}|{{ bos_token + 'x' }}", "{{ tools is none }} {{ tools is defined }} {{ documents }} {{ add_generation_prompt }} {{ messages | length }}", "{{ strftime_now('%%') }} {{ strftime_now('') }} {{ strftime_now('%Y') | length }} {{ strftime_now('%d %b %Y') | length }} {{ strftime_now('a%Zb%fc') | length }}",
    "{% if tools %}T{% endif %}{% if not tools is defined or tools is none %}N{% endif %}", "{{ messages[0]['role'] == 'system' }} {{ messages[1].content[:2] }} {{ messages[2].content.split('</think>')[-1].strip() }}", "{% set loop_messages = messages[1:] if messages[0].role == 'system' else messages %}{% for m in loop_messages %}{{ (m.role == 'user') != (loop.index0 % 2 == 0) }}{% endfor %}", "{{ messages[0].nosuch is defined }} {{ messages[0].tool_calls }} {{ 'tool_calls' in messages[0] }} {{ messages[0].tool_calls is defined and messages[0].tool_calls is not none }}",
    "{{ self }}" if False else "{{ '' }}", "{{ ''.__class__ }}", "{{ ''['__class__'] }}" if False else "{{ d.__class__ is defined }}", "{% set ns = namespace(_x=1) %}", "{% set ns = namespace(x=1) %}{% set ns._y = 2 %}{{ ns.x }}", "{% for i in range(200000) %}{% endfor %}" if False else "{% for i in range(300) %}x{% endfor %}", "{% autoescape true %}{{ '<' }}{% endautoescape %}", "{% debug %}", "{% trans %}x{% endtrans %}", "{{ _('x') }}",
    "{% set x = namespace(l=[]) %}{% for n in nums %}{% set x.l = x.l + [n * 2] %}{% endfor %}{{ x.l }}", "{{ [1, 2, 3,] }} {{ {'a': 1,} }}", "{{ not none and 1 }}", "{{ 1 if none is not none else 2 }}", "{{ 'A' if messages | length > 3 and (messages[0].role == 'system') else 'B' }}", "{{- '\\n' -}}x{{- '\\n\\n' }}", "{{ \"a\" \n ~ 'b' }}", "{{ true }}{{ True }}{{ none }}{{ None }}{{ false }}{{ False }}", "{{ l is string }}{{ missing is string }}{{ missing is mapping }}{{ missing is iterable }}{{ none is iterable }}{{ i is iterable }}",
)

_DOC = {"kwargs": {"documents": DOCUMENTS, "add_generation_prompt": True}}


def _cases(name, *kinds):
    """`kinds`: messages and arguments of each case."""
    return [
        {"name": f"{name}/{i}", "template": f"{name}.jinja", "messages": messages, "kwargs": kwargs}
        for i, (messages, kwargs) in enumerate(kinds)
    ]


PLAIN = (MESSAGES, {"add_generation_prompt": True})
NO_PROMPT = (MESSAGES, {})
USER = (MESSAGES[1:2], {"add_generation_prompt": True})
WITH_TOOLS = (TOOL_CHAT, {"tools": TOOLS, "add_generation_prompt": True})
CONTINUED = (MESSAGES[:3], {"continue_final_message": True})
THINKING = (MESSAGES, {"add_generation_prompt": True, "enable_thinking": False})
WRONG = ([{"role": "assistant", "content": "x"}, {"role": "assistant", "content": "y"}], {})

TEMPLATE_CASES = (
    _cases("chatml", PLAIN, NO_PROMPT, USER, CONTINUED, THINKING)
    + _cases("llama3_tools", PLAIN, USER, WITH_TOOLS, CONTINUED, (MESSAGES, {"date_string": "1 Jan 2025"}),
             (TOOL_CHAT, {"tools": TOOLS, "tools_in_user_message": False, "add_generation_prompt": True}))
    + _cases("mistral", PLAIN, (MESSAGES[1:], {}), WITH_TOOLS, WRONG, (PARTS, {}))
    + _cases("gemma", PLAIN, USER, (PARTS, {"add_generation_prompt": True}), WRONG, CONTINUED)
    + _cases("qwen3", PLAIN, USER, WITH_TOOLS, THINKING, (MESSAGES, {"tools": TOOLS}), (MESSAGES[:3], {"continue_final_message": "content"}),
             (TOOL_CHAT[:4], {"continue_final_message": "reasoning_content"}))
    + _cases("deepseek", PLAIN, USER, WITH_TOOLS, NO_PROMPT)
    + _cases("phi", PLAIN, USER, WITH_TOOLS, NO_PROMPT)
    + _cases("smollm3", PLAIN, USER, WITH_TOOLS, THINKING, (MESSAGES, {"tools": TOOLS, "xml_tools": TOOLS, "custom_instructions": "Be kind.", "add_generation_prompt": True}))
    + _cases("command_r", PLAIN, (MESSAGES, _DOC["kwargs"]), WITH_TOOLS, USER)
    + _cases("xml_tools", PLAIN, WITH_TOOLS)
    + _cases("continued", (MESSAGES[:3], {"continue_final_message": True}),
             ([{"role": "assistant", "content": "trailing  \n"}], {"continue_final_message": True}),
             (PARTS[:2], {"continue_final_message": True}),
             (MESSAGES[:3], {"continue_final_message": True, "add_generation_prompt": True}),
             ([{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": []}], {"continue_final_message": True}))
    + [
        {"name": "named", "template": "{{ messages[0].content }}", "messages": []},
        {"name": "none content", "template": "{{ messages[0] }}", "messages": [{"role": "user", "content": None, "x": 1}]},
        {"name": "reasoning", "template": "{{ messages }}", "messages": [{"role": "assistant", "content": "a", "reasoning": "r"}]},
        {"name": "tools not objects", "template": "x", "kwargs": {"tools": ["a"]}},
    ]
)
