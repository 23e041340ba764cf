from aegis_daemon import main

main()
