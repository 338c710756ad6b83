"""The chapter of the Python library reference that describes each module of the standard library.

The chapters follow the reference of Python 3.11 to 3.13, with these exceptions, so that classes are
topics and the same in every version: superseded modules are in the chapter of their topic, and
private modules in that of the module they serve. Chapters with fewer than five modules or fifty
docstrings in any of these versions are left out.
"""

CHAPTERS: dict[str, str] = {
    "Text Processing Services": """
        string re sre_compile sre_constants sre_parse difflib textwrap stringprep rlcompleter""",
    "Binary Data Services": "struct codecs encodings",
    "Data Types": """
        datetime _pydatetime _strptime zoneinfo calendar collections _collections_abc heapq bisect
        weakref _weakrefset types copy pprint reprlib enum graphlib""",
    "Numeric and Mathematical Modules": """
        numbers decimal _pydecimal fractions random statistics""",
    "File and Directory Access": """
        pathlib posixpath ntpath nturl2path genericpath fileinput stat filecmp tempfile glob fnmatch
        linecache shutil""",
    "Data Compression and Archiving": "gzip bz2 lzma _compression zipfile tarfile",
    "File Formats": "csv configparser tomllib netrc xdrlib plistlib",
    "Generic Operating System Services": """
        os io _pyio argparse getopt optparse logging getpass curses platform ctypes""",
    "Concurrent Execution": """
        threading _threading_local multiprocessing concurrent subprocess sched queue contextvars""",
    "Networking and Interprocess Communication": """
        asyncio socket ssl selectors signal asyncore asynchat""",
    "Internet Data Handling": """
        email json mailbox mailcap mimetypes base64 quopri uu""",
    "Structured Markup Processing Tools": "html xml _markupbase",
    "Internet Protocols and Support": """
        webbrowser wsgiref urllib http ftplib poplib imaplib smtplib uuid socketserver xmlrpc
        ipaddress cgi cgitb nntplib smtpd telnetlib""",
    "Program Frameworks": "turtle turtledemo cmd shlex",
    "Graphical User Interfaces": "tkinter idlelib",
    "Development Tools": """
        typing pydoc doctest unittest lib2to3""",
    "Debugging and Profiling": "bdb pdb profile cProfile pstats timeit trace tracemalloc",
    "Python Runtime Services": """
        sysconfig _sysconfig warnings dataclasses contextlib abc _py_abc traceback inspect site
        _sitebuiltins __future__""",
    "Importing Modules": "zipimport pkgutil modulefinder runpy importlib imp",
    "Python Language Services": """
        ast symtable token keyword opcode tokenize tabnanny pyclbr py_compile compileall dis
        pickletools""",
}
