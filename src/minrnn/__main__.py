from minrnn.commands import main

raise SystemExit(main())
